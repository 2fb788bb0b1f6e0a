"""Part 3, the LSM tree: other keys and sizes, a tampered disk, and scripts against a dictionary."""

import math

import numpy as np
import pytest

from autograder.compare import close


def disk_of(log, altered=lambda entries: entries):
    """A disk as four functions; what is stored may be altered on its way to find."""
    files = {}

    def write(entries):
        log.append(("write", len(entries)))
        files[len(log)] = [tuple(entry) for entry in entries]
        return len(log)

    def read(file):
        log.append(("read", len(files[file])))
        return list(files[file])

    def find(file, key):
        log.append(("find", key))
        held = dict(altered(files[file]))
        return key in held, held.get(key)

    def drop(file):
        log.append(("drop", len(files.pop(file))))

    return files, (write, read, find, drop)


def ended(answers):
    """A dictionary's answers to a script, the oracle of every store."""
    held, said = {}, []
    for name, key, value in answers:
        if name == "get":
            said.append(held.get(key))
        elif name == "put":
            held[key] = value
        else:
            held.pop(key, None)
    return said


@pytest.mark.question("q3a")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_few_absent_keys_pass(student, rng):
    """The share of absent keys that pass is near the one asked for"""
    keys = rng.choice(2 * 10**6, 5000, replace=False) - 10**6
    inside, outside = keys[:1000].tolist(), keys[1000:].tolist()
    for rate in (0.1, 0.01):
        bits = math.ceil(-1000 * math.log(rate) / math.log(2) ** 2)
        hashes = round(bits / 1000 * math.log(2))
        bloom = student.bloom_build(inside, bits, hashes)
        close(student.might_hold(bloom, inside, hashes), np.ones(1000, dtype=bool))
        share = float(np.mean(student.might_hold(bloom, outside, hashes)))
        assert share <= 2 * rate


@pytest.mark.question("q3a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_other_sizes_and_keys(student, rng):
    """Sizes over many rates; filters of one key, of huge keys and of one bit"""
    for count, rate in [(1, 0.5), (7, 0.03), (12345, 0.02), (10**6, 1e-6)]:
        bits, hashes = student.bloom_size(count, rate)
        close(bits, math.ceil(count * math.log(1 / rate, 2) / math.log(2)))
        assert hashes >= 1
        assert abs(hashes - bits / count * math.log(2)) <= 0.5 + 1e-9 or hashes == 1
    for key in (0, -5, 2**62 + 3):
        bloom = student.bloom_build([key], 97, 4)
        close(student.might_hold(bloom, [key], 4), np.array([True]))
    close(student.might_hold(student.bloom_build([3], 1, 2), [3, 4], 2), np.array([True, True]))


@pytest.mark.question("q3b")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_random_runs_against_a_dictionary(student, rng):
    """Random runs, empty ones among them, values that are 0 or empty"""
    close(student.merge_runs([], True), [])
    close(student.merge_runs([[(4, 0), (5, "")], []], True), [(4, 0), (5, "")])
    for _ in range(8):
        runs = []
        for _ in range(rng.integers(1, 6)):
            keys = np.unique(rng.integers(0, 15, rng.integers(0, 12))).tolist()
            runs.append([(k, None if rng.random() < 0.3 else int(rng.integers(3))) for k in keys])
        seen = {}
        for run in runs:
            for key, value in run:
                seen.setdefault(key, value)
        whole = [(key, seen[key]) for key in sorted(seen)]
        close(student.merge_runs(runs, False), whole)
        close(student.merge_runs(runs, True), [pair for pair in whole if pair[1] is not None])


@pytest.mark.question("q3c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_a_get_reads_what_is_on_the_disk(student):
    """A get goes to the disk, from the newest run on, and stops there"""
    log = []
    _, disk = disk_of(log, lambda entries: [(key, value + 1000) for key, value in entries])
    script = [("put", k, v) for v in (1, 2) for k in (10, 11)] + [("put", 12, 3), ("put", 13, 3)]
    asked = [("get", key, None) for key in (10, 12, 13)]
    close(student.replay([*script, *asked], *disk, 2, 100, False), [1002, 1003, 1003])
    close(
        [entry for entry in log if entry[0] == "find"],
        [("find", 10), ("find", 10), ("find", 12), ("find", 13)],
    )


@pytest.mark.question("q3c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_filters_save_lookups(student, rng):
    """With filters an absent key costs next to no lookups, and a present one is still found"""
    log = []
    _, disk = disk_of(log)
    keys = rng.permutation(400)[:60].tolist()
    script = [("put", k, k + 1) for k in keys]
    absent = [("get", int(k), None) for k in rng.integers(1000, 10**6, 40)]
    answers = student.replay([*script, *absent, *[("get", k, None) for k in keys]], *disk, 10, 100, True)
    close(answers, [None] * 40 + [k + 1 for k in keys])
    lookups = sum(entry[0] == "find" for entry in log)
    assert 60 <= lookups <= 100  # 60 for the present keys; 1 % of 40 * 6 and of 60 * 2.5 are 4 in the mean


def operations(text):
    """A script from words: p1=5 puts, d1 deletes, g1 gets."""
    names = {"p": "put", "d": "delete", "g": "get"}
    for word in text.split():
        key, _, value = word[1:].partition("=")
        yield names[word[0]], int(key), int(value) if value else None


# What random scripts meet only now and then: the points of a wrong store must not hang on a seed.
FIXED = [
    (2, 100, list(operations("p1=5 p2=6 d1 g1 g2"))),  # a tombstone in the memtable, a value in a run
    (2, 100, list(operations("p1=5 p2=6 d1 p3=7 g1 g3"))),  # a tombstone in a newer run
    (2, 2, list(operations("p1=5 p2=6 d1 p3=0 g1 g2 g3"))),  # it goes with the last merge, a 0 stays
    (1, 2, list(operations("p1=1 p1=2 g1 p1=3 g1 d1 g1 p2=0 g2 g1"))),  # the newest of each merge
    (2, 2, list(operations("p1=1 p2=2 p3=3 p4=4 p5=5 p6=6 p7=7 p8=8 d1 p9=9 p10=1 p11=2 g1 g2 g9"))),
]


def random_script(rng):
    """60 puts, deletes and gets of 12 keys."""
    script = []
    for _ in range(60):
        key, kind = int(rng.integers(12)), rng.random()
        if kind < 0.5:
            script.append(("put", key, int(rng.integers(5))))
        else:
            script.append(("delete" if kind < 0.7 else "get", key, None))
    return script


@pytest.mark.question("q3d")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_random_scripts_against_a_dictionary(student, rng):
    """Given and random puts, deletes and gets for several limits and fanouts"""
    drawn = [(limit, fanout, random_script(rng)) for limit, fanout in [(1, 2), (3, 2), (2, 3)]]
    for limit, fanout, script in [*FIXED, *drawn]:
        log = []
        files, disk = disk_of(log)
        close(student.replay(script, *disk, limit, fanout, False), ended(script))
        runs, written = 0, [size for name, size in log if name == "write"]
        assert 0 not in written
        for entries in files.values():
            keys = [key for key, _ in entries]
            # A run of the memtable's size was not merged, so it is not of this question.
            assert keys == sorted(set(keys)) or len(keys) == limit
            runs += 1
        levels = 2 + math.log(sum(name != "get" for name, *_ in script) / limit, fanout)
        assert runs <= (fanout - 1) * levels


@pytest.mark.question("q3d")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_a_tombstone_outlives_older_values(student):
    """A deleted key stays deleted while an older value lies in a deeper level"""
    log = []
    files, disk = disk_of(log)
    script = [("put", k, k) for k in range(1, 9)]  # limit 2, fanout 2: one run in level 2
    script += [("delete", 1, None), ("put", 20, 20), ("put", 21, 21), ("put", 22, 22), ("get", 1, None)]
    close(student.replay(script, *disk, 2, 2, False), [None])
    stones = [entry for entries in files.values() for entry in entries if entry[1] is None]
    close(stones, [(1, None)])


@pytest.mark.question("q3e")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_write_amplification_by_counting_runs(student):
    """Other sizes, by moving runs through levels one at a time"""
    for n, limit, fanout in [(1000, 7, 3), (512, 1, 2), (513, 16, 8), (99, 10, 10)]:
        levels, written = [0] * 20, 0
        for _ in range(n // limit):
            levels[0] += 1
            written += limit
            for depth in range(19):
                if levels[depth] == fanout:
                    levels[depth], levels[depth + 1] = 0, levels[depth + 1] + 1
                    written += limit * fanout ** (depth + 1)
        close(student.write_amplification(n, limit, fanout), written / n, rtol=1e-9)
