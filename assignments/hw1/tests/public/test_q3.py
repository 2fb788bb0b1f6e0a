"""Part 3, the LSM tree: filters by what they must and must not say, the store by what it does to a disk."""

import numpy as np
import pytest

from autograder.compare import close


def counting_disk():
    """A disk as four functions, and the log of what they were asked: (name, file, entries or key)."""
    files, log = {}, []

    def write(entries):
        files[len(log)] = [tuple(entry) for entry in entries]
        log.append(("write", len(log), files[len(log)]))
        return log[-1][1]

    def read(file):
        log.append(("read", file, None))
        return list(files[file])

    def find(file, key):
        log.append(("find", file, key))
        held = dict(files[file])
        return key in held, held.get(key)

    def drop(file):
        log.append(("drop", file, None))
        del files[file]

    return files, log, (write, read, find, drop)


def merges(student):
    """Compaction builds on q3b: where that is wrong, say so rather than blame q3d."""
    runs = [[(1, None), (2, 0)], [(1, "one"), (2, "old"), (3, "three")]]
    said = "this fails because merge_runs (q3b) does; mend that first"
    for drop, expected in [(False, [(1, None), (2, 0), (3, "three")]), (True, [(2, 0), (3, "three")])]:
        merged = student.merge_runs(runs, drop)
        assert isinstance(merged, list | tuple), said
        assert [tuple(entry) for entry in merged] == expected, said


@pytest.mark.question("q3a")
@pytest.mark.points(1)
def test_the_size_of_a_filter(student):
    """Bits and hashes for four filters, two ints; one hash at least"""
    sizes = {(1000, 0.01): (9586, 7), (100, 0.5): (145, 1), (16, 0.001): (231, 10), (10, 0.9): (3, 1)}
    for given, size in sizes.items():
        got = student.bloom_size(*given)
        close(got, size, input=given)
        whole = all(isinstance(part, int | np.integer) for part in got)
        assert whole, f"bits and hashes are two ints; bloom_size{given} gives {tuple(got)}"


@pytest.mark.question("q3a")
@pytest.mark.points(2)
def test_a_filter_never_denies_a_key_that_went_in(student, rng):
    """No key that went in is denied"""
    keys = np.unique(rng.integers(0, 10**9, 200)).tolist()
    bloom = student.bloom_build(keys, 2000, 7)
    assert isinstance(bloom, np.ndarray), f"a filter is a bool array, got {type(bloom).__name__}"
    assert (bloom.dtype, bloom.shape) == (bool, (2000,)), "the filter has one bool for each bit"
    close(student.might_hold(bloom, keys, 7), np.ones(len(keys), dtype=bool))


@pytest.mark.question("q3a")
@pytest.mark.points(1)
def test_an_empty_filter_denies_everything(student):
    """An empty filter holds nothing, a filter with two keys has few bits set"""
    close(student.might_hold(np.zeros(64, dtype=bool), [1, 2, 3], 3), np.zeros(3, dtype=bool))
    bloom = np.asarray(student.bloom_build([11, 12], 64, 3))
    assert 1 <= bloom.sum() <= 6, f"two keys of three hashes set at most 6 bits, got {bloom.sum()}"


@pytest.mark.question("q3b")
@pytest.mark.points(2)
def test_the_newest_value_wins(student):
    """Three runs become one, sorted, with the newest values"""
    runs = [[(2, "new"), (9, "nine")], [(1, "one"), (2, "old")], [(2, "oldest"), (4, "four")]]
    close(student.merge_runs(runs, False), [(1, "one"), (2, "new"), (4, "four"), (9, "nine")], input=runs)


@pytest.mark.question("q3b")
@pytest.mark.points(1)
def test_tombstones_stay_or_go_as_asked(student):
    """A tombstone hides older values, and is itself kept or dropped; the values 0 and "" are none"""
    runs = [[(1, None), (3, 30)], [(1, 10), (2, 20)]]
    close(student.merge_runs(runs, False), [(1, None), (2, 20), (3, 30)], input=(runs, False))
    close(student.merge_runs(runs, True), [(2, 20), (3, 30)], input=(runs, True))
    runs = [[(1, None), (2, 0)], [(1, 10), (3, "")]]
    close(student.merge_runs(runs, True), [(2, 0), (3, "")], input=(runs, True))


def played(student, disk, script, memtable_limit, fanout):
    """What the gets of a script gave, and all that was run, to be shown."""
    given = {"operations": script, "memtable_limit": memtable_limit, "fanout": fanout, "filters": False}
    return student.replay(script, *disk, memtable_limit, fanout, False), given


@pytest.mark.question("q3c")
@pytest.mark.points(1)
def test_a_full_memtable_becomes_a_sorted_run(student):
    """Runs of three keys, sorted; a key put twice counts once"""
    _, log, disk = counting_disk()
    script = [("put", k, 10 * k) for k in (5, 1, 5, 3, 2, 9)] + [("put", 2, 7), ("put", 4, 40)]
    _, given = played(student, disk, script, 3, 100)
    written = [entries for name, _, entries in log if name == "write"]
    close(written, [[(1, 10), (3, 30), (5, 50)], [(2, 7), (4, 40), (9, 90)]], input=given)


@pytest.mark.question("q3c")
@pytest.mark.points(2)
def test_a_get_gives_the_newest_value(student):
    """Gets from memory and from runs: overwritten, deleted and unknown keys"""
    _, _, disk = counting_disk()
    asked = [("get", key, None) for key in (1, 2, 3, 4)]
    script = [("put", 1, "a"), ("put", 2, "b"), ("put", 1, "c"), *asked]
    script += [("delete", 2, None), ("put", 3, "d"), *asked]
    answers, given = played(student, disk, script, 2, 100)
    close(answers, ["c", "b", None, None, "c", None, "d", None], input=given)


@pytest.mark.question("q3c")
@pytest.mark.points(1)
def test_a_tombstone_in_the_memtable_hides_what_runs_hold(student):
    """A key deleted a moment ago is absent, though a run on disk still holds it; a 0 hides it too"""
    _, _, disk = counting_disk()
    script = [("put", 1, "a"), ("put", 2, "b"), ("delete", 1, None), ("get", 1, None)]
    script += [("put", 3, "c"), ("put", 2, 0), ("get", 2, None)]
    answers, given = played(student, disk, script, 2, 100)
    close(answers, [None, 0], input=given)


def the_only_file(files, given):
    """The entries of the one file that must be left."""
    assert len(files) == 1, (
        f"one file is left on the disk when all is merged and merged files are dropped, got {len(files)}; "
        f"memtable_limit {given['memtable_limit']}, fanout {given['fanout']}"
    )
    return next(iter(files.values()))


@pytest.mark.question("q3d")
@pytest.mark.points(2)
def test_each_entry_is_written_once_for_each_level(student):
    """64 keys, runs of 4, fanout 4: every entry is written three times and read twice"""
    merges(student)
    files, log, disk = counting_disk()
    _, given = played(student, disk, [("put", 37 * i % 64, i) for i in range(64)], 4, 4)
    written = sum(len(entries) for name, _, entries in log if name == "write")
    assert written == 192, f"64 puts through three levels write 192 entries, got {written}"
    reads = sum(name == "read" for name, *_ in log)
    assert reads == 20, f"16 runs of level 0 and 4 of level 1 are merged: 20 files are read, got {reads}"
    close(the_only_file(files, given), sorted((37 * i % 64, i) for i in range(64)), input=given)


@pytest.mark.question("q3d")
@pytest.mark.points(1)
def test_deleted_keys_leave_the_oldest_level(student):
    """When everything is merged, a deleted key takes no room"""
    merges(student)
    files, _, disk = counting_disk()
    script = [("put", 1, "a"), ("put", 2, "b"), ("delete", 1, None), ("put", 3, "c"), ("get", 1, None)]
    answers, given = played(student, disk, script, 2, 2)
    close(answers, [None], input=given)
    close(the_only_file(files, given), [(2, "b"), (3, "c")], input=given)


@pytest.mark.question("q3e")
@pytest.mark.points(2)
def test_write_amplification_level_by_level(student):
    """Entries written for each put, where runs fill up evenly and where they do not"""
    for n, limit, fanout, factor in [(64, 4, 4, 3.0), (16, 4, 8, 1.0), (20, 4, 2, 2.6), (3, 4, 2, 0.0)]:
        close(student.write_amplification(n, limit, fanout), factor, rtol=1e-9, input=(n, limit, fanout))
