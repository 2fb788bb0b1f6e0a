"""The warp demo: its numbers held to closed forms and to banks and sectors counted by hand, lane by lane."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from mlsys_lab import viz
from mlsys_lab.kernels import CudaKernel
from mlsys_lab.viz.warp_hiding import LOOP, TIMES
from mlsys_lab.viz.warp_run import listen
from mlsys_lab.viz.warp_turns import is_global_load, take_turns
from tests.conftest import need_front_end

LOAD_CYCLES = 24

TREES = {
    "t % (2 * h) == 0": ([1, 2, 4, 8, 16, 32, 64], lambda t, h: t if t % (2 * h) == 0 else None),
    "i = 2 * h * t": ([1, 2, 4, 8, 16, 32, 64], lambda t, h: 2 * h * t if 2 * h * t < 128 else None),
    "t < h": ([64, 32, 16, 8, 4, 2, 1], lambda t, h: t if t < h else None),
}


@pytest.fixture(scope="module", autouse=True)
def front_end():
    need_front_end()


@pytest.fixture(scope="module")
def stepper(front_end):
    return viz.warp_steps()


def shown(stepper, start):
    """The step whose sentence has this in it, and what it draws."""
    return next(
        (step.say, state)
        for step, state in zip(stepper.steps, stepper.states, strict=True)
        if start in step.say
    )


def turns_of(words):
    """Wavefronts of one warp's request: the most different words in a bank."""
    banks: dict[int, set[int]] = {}
    for word in words:
        banks.setdefault(word % 32, set()).add(word)
    return max(map(len, banks.values()))


@pytest.mark.parametrize(
    ("form", "word", "sectors"),
    [("i", lambda i: i, 4), ("2 * i", lambda i: 2 * i, 8), ("i + 1", lambda i: i + 1, 5),
     ("32 * i", lambda i: 32 * i, 32)],
)  # fmt: skip
def test_a_load_draws_the_sectors_that_its_words_lie_in_and_counts_as_many(stepper, form, word, sectors):
    say, state = shown(stepper, f"x[{form}]: lanes")
    assert [state[f"ask{i}"].lines for i in range(32)] == [(str(word(i)),) for i in range(32)]
    lanes = {s: sum(4 * word(i) // 32 == s for i in range(32)) for s in range(128)}
    drawn = {s: state[f"big{s}"] for s in range(128)}
    assert {s: (x.tone, x.lines) for s, x in drawn.items()} == {
        s: ("memory", (str(n),)) if n else ("plain", ()) for s, n in lanes.items()
    }
    assert f"{sectors} sectors:" in say
    assert sum(n > 0 for n in lanes.values()) == sectors
    assert say.endswith(f"are asked for: {100 * 128 / (32 * sectors):g}%.")
    bar = next(s for k, s in state.items() if k.startswith("bar") and s.lines[0].startswith(f"x[{form}]:"))
    assert bar.level == sectors / 32
    assert bar.lines[1] == f"128 B asked, {32 * sectors:,} B moved"


@pytest.mark.parametrize("stride", [1, 2, 32, 33])
def test_lanes_meet_in_the_banks_of_their_words_and_take_as_many_wavefronts(stepper, stride):
    form = "s[t]" if stride == 1 else f"s[{stride} * t]"
    say, state = shown(stepper, f"{form}: lanes")
    expected = math.gcd(stride, 32)  # lanes per bank that is asked
    assert expected == turns_of([stride * t for t in range(32)])
    assert re.search(rf": {expected} wavefronts?, {expected - 1} more than needed", say)
    for bank in range(32):
        there = [t for t in range(32) if stride * t % 32 == bank]
        drawn = [" ".join(x.lines) for r in range(4) if (x := state[f"big{r * 32 + bank}"]).lines]
        first = [str(t) for t in there]
        whole = first if len(there) <= 4 else [*first[:3], f"{len(there) - 3} more"]
        assert drawn == whole
    assert ("No two words meet" in say) == (expected == 1)


def test_lanes_that_ask_for_one_word_share_a_wavefront_and_other_indices_are_drawn_too(front_end):
    mine = viz.warp_steps(loads=("i / 4", "31 - i"), words=("t / 2", "t % 2 * 32"), load_cycles=7)
    say, state = shown(mine, "s[t / 2]: lanes")
    assert ": 1 wavefront, 0 more" in say
    assert [state[f"big{b}"].lines for b in range(32)] == [(str(2 * b), "+1") for b in range(16)] + [()] * 16
    say, state = shown(mine, "s[t % 2 * 32]: lanes")
    assert ": 2 wavefronts, 1 more" in say
    assert (state["big0"].lines, state["big32"].lines) == (("0", "+15"), ("1", "+15"))
    assert "1 sector: 0, 32 lanes in each. Of 32 bytes" in shown(mine, "x[i / 4]: lanes")[0]
    assert "a load takes 7 cycles" in shown(mine, "Part 4")[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"loads": ()}, "1 to 4 loads"), ({"words": ("t",) * 5}, "1 to 4 words"),
     ({"load_cycles": 0}, "1 cycle"), ({"loads": ("i + 9999",)}, "an index within the array"),
     ({"words": ("nothing",)}, "line 6.*nothing")],
)  # fmt: skip
def test_a_wrong_index_is_an_error_that_says_what_is_expected(wrong, message):
    with pytest.raises(ValueError, match=message):
        viz.warp_steps(**wrong)


@pytest.mark.parametrize("name", TREES)
def test_each_round_of_a_tree_shows_its_lanes_sums_active_share_and_conflicts(stepper, name):
    rounds, where = TREES[name]
    states = [s for s in stepper.states if any(name in line for line in s["code"].lines)]
    says = [step.say for step, s in zip(stepper.steps, stepper.states, strict=True) if s in states]
    assert len(states) == 7
    memory, lanes_all, slots_all, extra_all = np.ones(128), 0, 0, 0
    for h, state, say in zip(rounds, states, says, strict=True):
        at = {t: i for t in range(128) if (i := where(t, h)) is not None}
        for i in at.values():
            memory[i] += memory[i + h]
        warps = {t // 32 for t in at}
        extra = wavefronts = 0
        for w in warps:
            mine = [i for t, i in at.items() if t // 32 == w]
            for words in (mine, [i + h for i in mine], mine):  # two loads and a store
                wavefronts += turns_of(words)
                extra += turns_of(words) - 1
        share = len(at) / (32 * len(warps))
        assert f"h = {h}: {len(at)} thread" in say
        assert f"{100 * share:.3g}% of the lanes" in say
        assert f"take {wavefronts} wavefronts, {extra} more than needed." in say
        for t in range(128):
            tone = "compute" if t in at else "idle" if t // 32 in warps else "plain"
            lines = (f"{memory[at[t]]:g}",) if t in at else ()
            assert (state[f"big{t}"].tone, state[f"big{t}"].lines) == (tone, lines)
        stored = [i % 32 for t, i in at.items() if t < 32]
        top = [state[f"ask{b}"].lines for b in range(32)]
        assert top == [(str(stored.count(b)),) if b in stored else () for b in range(32)]
        lanes_all, slots_all, extra_all = lanes_all + len(at), slots_all + 32 * len(warps), extra_all + extra
    assert f"The sum is 128; in all {lanes_all / slots_all:.0%} of the lanes added" in says[-1]
    assert f"with {extra_all} wavefronts more than needed" in says[-1]


def test_a_run_instruction_by_instruction_counts_what_a_launch_reports():
    x, out = np.arange(TIMES * 32, dtype=np.float32), np.zeros(32, np.float32)
    ran, requests, _ = listen(LOOP, 32, x, out, TIMES)
    np.testing.assert_array_equal(out, x.reshape(TIMES, 32).sum(0))
    kernel = CudaKernel(LOOP)
    report = kernel[1, 32](x, np.zeros(32, np.float32), TIMES)
    assert len(ran) == report.instructions
    loads = [r for r in requests if r.op.startswith("ld")]
    assert sum(r.cost for r in loads) == report.global_loads.sectors == 4 * TIMES
    assert [r.word.tolist() for r in loads] == [list(range(32 * k, 32 * k + 32)) for k in range(TIMES)]
    np.testing.assert_array_equal(np.concatenate([r.value for r in loads]), x)


@pytest.fixture(scope="module")
def trace(front_end):
    x, out = np.ones(TIMES * 32, np.float32), np.zeros(32, np.float32)
    ran = listen(LOOP, 32, x, out, TIMES)[0]
    return ran[next(i for i, one in enumerate(ran) if is_global_load(one)) :]


@pytest.mark.parametrize("warps", [1, 2, 4, 8])
@pytest.mark.parametrize("late", [1, 5, 24, 100])
def test_warps_that_do_not_switch_wait_for_every_load_and_those_that_do_wait_less(trace, warps, late):
    # The instruction behind each load needs it: a load costs its cycles, anything else one.
    alone = len(trace) + TIMES * (late - 1)
    off = take_turns(trace, warps, load_cycles=late, switching=False)
    assert len(off.issued) == warps * alone
    on = take_turns(trace, warps, load_cycles=late)
    assert max(alone, warps * len(trace)) <= len(on.issued) <= warps * len(trace) + TIMES * (late - 1)
    for model in (off, on):
        assert model.used == pytest.approx(warps * len(trace) / len(model.issued))
        for w in range(warps):
            assert [slot[1] for slot in model.issued if slot and slot[0] == w] == trace


@pytest.mark.parametrize("warps", [2, 4, 8])
def test_the_slot_goes_round_the_warps_in_order(trace, warps):
    issued = [slot for slot in take_turns(trace, warps, load_cycles=LOAD_CYCLES).issued if slot]
    changes = [(a[0], b[0]) for a, b in itertools.pairwise(issued) if a[0] != b[0]]
    assert len(changes) >= warps * TIMES
    assert all((after - before) % warps == 1 for before, after in changes)


def test_enough_warps_hide_a_load_wholly(trace):
    turn = len(trace) // TIMES  # instructions of a turn of the loop
    enough = -(-(turn + LOAD_CYCLES - 1) // turn)
    issued = take_turns(trace, enough, load_cycles=LOAD_CYCLES).issued
    middle = issued[len(issued) // 4 : len(issued) // 2]
    assert all(slot is not None for slot in middle)
    fewer = take_turns(trace, enough - 1, load_cycles=LOAD_CYCLES).issued
    assert any(slot is None for slot in fewer[len(fewer) // 4 : len(fewer) // 2])


@pytest.mark.parametrize("warps", [1, 2, 4, 8])
def test_the_timeline_draws_one_instruction_per_used_slot_and_says_it_is_a_model(stepper, trace, warps):
    found = 0
    for step, state in zip(stepper.steps, stepper.states, strict=True):
        rows = sum(bool(state[f"warp{w}"].lines) for w in range(8))
        if rows != warps:
            continue
        found += 1
        assert re.match(r"Model:|Part 4, a model:", step.say)
        used = [c for c in range(32) if state[f"ask{c}"].tone == "compute"]
        for c in range(32):
            at_work = [w for w in range(warps) if state[f"small{w}-{c}"].tone == "compute"]
            assert [f"w{w}" for w in at_work] == list(state[f"ask{c}"].lines)
        assert f"{len(used)} of the 32 slots shown" in step.say
        on = "switching off" not in step.say
        issued = take_turns(trace, warps, load_cycles=LOAD_CYCLES, switching=on).issued
        cycles = len(issued)
        for c in range(32):
            cycle = int(state[f"column{c}"].lines[0])
            for w in range(warps):
                # What comes behind a load needs it: dashed while the load is under way, and then no more.
                last = [i for i, slot in enumerate(issued[:cycle]) if slot and slot[0] == w][-1:]
                late = any(is_global_load(issued[i][1]) and cycle < i + LOAD_CYCLES for i in last)
                assert (state[f"small{w}-{c}"].tone == "idle") == late
        assert f"{len(trace) * warps / cycles:.0%} of slots, {cycles:,} cycles" in step.say
    assert found == (1 if warps == 1 else 2)


def test_no_shape_of_one_part_stays_in_another(stepper):
    for state in stepper.states:
        large = any(s.tone != "label" or s.lines for k, s in state.items() if k.startswith(("big", "head")))
        small = any(s.tone != "label" or s.lines for k, s in state.items() if k.startswith(("small", "warp")))
        assert large != small


def test_without_a_compiler_the_command_says_in_one_line_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['ziglang'] = None\n"
        "import importlib.util; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'ziglang' else find(name, *a)\n"
        "from mlsys_lab.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "warp", "--no-browser"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={"MLSYS_LAB_NO_NVRTC": "1", "PATH": "", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip().count("\n") == 0
    assert 'pip install "mlsys-lab-course[kernels]"' in done.stderr
    assert list(tmp_path.glob("demos/*")) == []
