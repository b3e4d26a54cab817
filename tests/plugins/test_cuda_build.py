"""What nvcc made of the CUDA kernels, as `make native-cuda-check` measured it; and that check on made-up builds."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import check
import ptx
import pytest
import rules
import sass
from check import Build
from sass import Kernel, Measured

ROOT = Path(__file__).parents[2]
SYMBOL = "_ZN5simam4cuda49_GLOBAL__N__719c6359_10_kernels_cu_d0f2f499_155205entryINS0_{}EEEvNS0_7ProblemE"
LARGE = Kernel("F16", "planes", True, 7, "block", "whole", False)


def of(kernel: Kernel = LARGE, arch: int = 90, **more: int) -> Measured:
    """A kernel as it should be, with more of some instructions: a dot is written __."""
    elements = kernel.held * 16 // sass.BYTES[kernel.format]
    loads = kernel.held * (2 if kernel.epilogue else 1)
    good = {
        "LDG.E.NA.128": loads,
        "STG.E.128": kernel.held,
        "MUFU.TANH": elements,
        "MUFU.RCP": 2,
        "FADD": 10 * elements,
    }
    if kernel.epilogue:
        good |= {"MUFU.EX2": elements, "MUFU.RCP": elements + 2, "LDG.E": 2}
    if kernel.mode == "cluster":
        good |= {"UCGABAR_ARV": 2, "UCGABAR_WAIT": 2}
    for name, number in more.items():
        good[name.replace("__", ".")] = good.get(name.replace("__", "."), 0) + number
    return Measured(kernel, arch, registers=74, mnemonics=good)


def build(change: Callable[[Measured], Measured] = lambda row: row) -> Build:
    """One kernel for all architectures and in PTX; `change` is made on sm_90's."""
    code = [of(arch=arch) for arch in sorted(check.ARCHITECTURES)]
    code = [change(row) if row.arch == 90 else row for row in code]
    return Build("13.0", code, [ptx.Written(LARGE, "9.0", 100, 640, 0, 0, 0, 0)])


def said(changed: Build) -> list[str]:
    """What is found in it against the budget of a good one."""
    return check.report(check.judge(changed, *check.read_budget(check.write_budget(build()))))


# what was built here


def test_what_was_built_keeps_to_the_rules_and_the_budget() -> None:
    kept = ROOT / "build/native/cuda/kernels.json"
    if not kept.exists():
        pytest.skip(
            "the CUDA kernels were not compiled and measured: `make native-cuda-check` does, and says why not"
        )
    sources = [path for path in check.HERE.iterdir() if path.suffix in (".cu", ".h")]
    if kept.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        pytest.skip("the CUDA kernels were changed after they were measured: `make native-cuda-check`")
    built = check.from_json(kept.read_text())
    assert check.report(check.judge(built, *check.budget_here())) == []
    assert {row.arch for row in built.code} == check.ARCHITECTURES


def test_the_numbers_stand_in_the_sources_too() -> None:
    folder = check.HERE
    cmake = (folder.parent / "CMakeLists.txt").read_text() + (folder / "CMakeLists.txt").read_text()
    listed = re.search(r"SIMAM_CUDA_ARCHITECTURES ([\d ]+) CACHE", cmake)
    assert listed is not None
    assert {int(arch) for arch in listed[1].split()} == check.ARCHITECTURES
    generations = re.search(r"foreach\(source ([\d ]+)\)", cmake)
    assert generations is not None
    assert tuple(int(arch) for arch in generations[1].split()) == check.GENERATIONS
    plan = (folder / "plan.h").read_text()
    table = re.search(r"kTable\[3\]\[3\] = \{\{.*?\}, \{.*?\}, \{(\d+), (\d+), (\d+)\}\};", plan)
    assert table is not None
    assert {4: int(table[1]), 2: int(table[2]), 1: int(table[3])} == {
        sass.BYTES[name]: held for name, held in rules.MOST_HELD.items()
    }
    for name, threads in (("Plane", "planes"), ("Tile", "tiles"), ("Lanes", "lanes")):
        assert f"k{name}Threads = {sass.THREADS[threads]};" in plan
    _, limits = check.budget_here()
    for format in sass.BYTES:
        assert sum(name.startswith(f"{format} ") for name in limits) == 38


# builds made up


def test_a_good_build_is_found_good() -> None:
    assert said(build()) == []
    assert check.from_json(check.to_json(build())) == build()


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"LDL": 1}, "accesses of local memory (LDL, STL): 1, allowed 0"),
        ({"STL__64": 2}, "accesses of local memory (LDL, STL): 2, allowed 0"),
        ({"CALL__REL__NOINC": 1, "RET__REL__NODEC": 1}, "calls: 1, allowed 0"),
        ({"LDG__E__U16": 1}, "narrow accesses of x or y: 1, allowed 0"),
        ({"LDG__E": 1}, "loads of single floats: 1, allowed 0"),
        ({"STG__E": 1}, "stores of less than 16 bytes: 1, allowed 0"),
        ({"STG__E__U16": 1}, "stores of less than 16 bytes: 1, allowed 0"),
        ({"LDG__E__NA__128": 1}, "vectors loaded: 8, allowed 7"),
        ({"LDG__E__NA__128": -1}, "vectors loaded: 6, allowed 7"),
        ({"LDG__E__128": 7}, "vectors loaded into L1: 7, allowed 0"),
        ({"STG__E__128": -1}, "vectors stored: 6, allowed 7"),
        ({"MUFU__TANH": 1}, "MUFU.TANH: 57, allowed 56"),
        ({"MUFU__EX2": 56}, "MUFU.EX2: 56, allowed 0"),
        ({"MUFU__RCP": 56}, "MUFU.RCP: 58, allowed 12"),
        ({"MUFU__RSQ": 1}, "other MUFU: 1, allowed 0"),
        ({"UCGABAR_ARV": 1}, "cluster barriers: 1, allowed 0"),
        ({"FFMA": 500}, "instructions per element: 20.21, allowed 18"),
    ],
)
def test_a_bad_instruction_is_found(more: dict[str, int], what: str) -> None:
    assert f"{LARGE}: {what} (sm_90)" in said(build(lambda row: of(row.kernel, row.arch, **more)))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"registers": 75}, "registers: 75, allowed 74"),
        ({"stack": 8}, "bytes of stack: 8, allowed 0"),
        ({"shared": 16}, "shared: 16, allowed 0"),
    ],
)
def test_more_than_the_budget_is_found(change: dict[str, int], what: str) -> None:
    assert f"{LARGE}: {what} (sm_90)" in said(build(lambda row: replace(row, **change)))


def test_the_budget_of_instructions_is_one_for_each_generation() -> None:
    slower = build(lambda row: of(row.kernel, row.arch, FADD=56))
    assert said(slower) == [f"{LARGE}: instructions/element 90: 12.3, allowed 11.3 (sm_90)"]
    by_nvcc = replace(slower, nvcc="13.5")
    assert said(by_nvcc) == [], "another compiler's registers are not this one's"
    assert said(replace(build(lambda row: of(row.kernel, row.arch, LDL=1)), nvcc="13.5")) != []


BROKEN = {
    "empty": (lambda text: "", "it is empty"),
    "of something else": (lambda text: "kernel\n" + text, "line 1 is to be `# nvcc 13.0; ...`, it is 'kernel'"),
    "of a conflict": (
        lambda text: text.replace("F16", "<<<<<<< HEAD\nF16", 1),
        "line 3 .* numbers; it is '<<<<<<< H",
    ),
    "head alone": (lambda text: text.splitlines(keepends=True)[0], "there is no kernel in it"),
    "without kernels": (lambda text: "".join(text.splitlines(keepends=True)[:2]), "there is no kernel in it"),
    "other columns": (lambda text: text.replace("stack", "heap"), "line 2 is to name the columns kernel, registers"),
    "cut off in a number": (lambda text: text[:-1], "line 3 is cut off"),
    "cut off between": (lambda text: text.rpartition("\t")[0], "line 3 is to be a kernel and 7 numbers; it is 'F16"),
    "a word": (lambda text: text.replace("\t74\t", "\tmany\t"), "line 3 is to be a kernel and 7 numbers"),
    "no number": (lambda text: text.replace("\t74\t", "\tnan\t"), "line 3 is to be a kernel and 7 numbers"),
    "twice": (lambda text: text + text.splitlines(keepends=True)[-1], f"line 4 is the second of {LARGE}"),
    "bytes": (lambda text: text.replace("F16", "\udcff"), "utf-8"),
    "gone": (None, "No such file"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_budget_is_told(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, words = BROKEN[what]
    budget = tmp_path / "budget.tsv"
    if change is not None:
        budget.write_bytes(change(check.write_budget(build())).encode(errors="surrogateescape"))
    monkeypatch.setattr(check, "BUDGET", budget)
    monkeypatch.setattr(check, "look", lambda *_: pytest.fail("it is read before the build is measured"))
    monkeypatch.setattr(sys, "argv", ["check.py", str(tmp_path), "--tools", str(tmp_path)])
    with pytest.raises(SystemExit, match=rf"{budget}: .*{words}.*; `make native-cuda-budget` writes it anew"):
        check.main()


def test_a_broken_budget_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = tmp_path / "budget.tsv"
    budget.write_text("<<<<<<< HEAD\n")
    monkeypatch.setattr(check, "BUDGET", budget)
    monkeypatch.setattr(check, "look", lambda *_: build())
    monkeypatch.setattr(check, "judge", lambda *_: [])
    monkeypatch.setattr(sys, "argv", ["check.py", str(tmp_path), "--tools", str(tmp_path), "--update"])
    with pytest.raises(SystemExit) as ended:
        check.main()
    assert ended.value.code == 0
    assert budget.read_text() == check.write_budget(build())


def test_what_is_missing_is_found() -> None:
    whole = build()
    gone = replace(whole, code=[row for row in whole.code if row.arch != 87])
    assert said(gone) == [f"{LARGE}: not compiled for sm_87"]
    assert said(replace(whole, ptx=[])) == [f"{LARGE}: not in the PTX"]
    other = replace(LARGE, epilogue=True)
    more = replace(
        whole,
        code=[
            *whole.code,
            *(
                of(
                    other,
                    arch,
                )
                for arch in check.ARCHITECTURES
            ),
        ],
    )
    assert f"{other}: not in budget.tsv; look at it, then --update" in said(more)
    assert said(Build("13.0", [], [])) == [f"{LARGE}: in budget.tsv and in no object; --update"]


def test_a_kernel_of_clusters_has_them_or_is_a_trap() -> None:
    kernel = replace(LARGE, mode="cluster")
    assert list(rules.findings(of(kernel))) == []
    assert [each.what for each in rules.findings(of(kernel, UCGABAR_ARV=-2, UCGABAR_WAIT=-2))] == ["cluster barriers"]
    trap = Measured(kernel, 80, registers=4, mnemonics={"MOV": 2, "BPT.TRAP": 1})
    assert list(rules.findings(trap)) == []
    assert [each.what for each in rules.findings(of(kernel, 80))] == ["instructions where there are no clusters"]


def test_a_fused_kernel_loads_twice_and_has_silu() -> None:
    kernel = replace(LARGE, epilogue=True)
    assert list(rules.findings(of(kernel))) == []
    assert [each.what for each in rules.findings(of(kernel, LDG__E__NA__128=-7))] == ["vectors loaded"]
    assert [each.what for each in rules.findings(of(kernel, MUFU__EX2=-56))] == ["MUFU.EX2"]
    assert [each.what for each in rules.findings(of(kernel, LDG__E=1))] == ["loads of single floats"]
