"""What cuobjdump and nvcc print of a kernel, as it is read."""

import ptx
import pytest
import rules
import sass
from sass import Kernel, Measured

SYMBOL = "_ZN5simam4cuda49_GLOBAL__N__719c6359_10_kernels_cu_d0f2f499_155205entryINS0_{}EEEvNS0_7ProblemE"
LARGE = Kernel("F16", "planes", True, 7, "block", "whole", False)


@pytest.mark.parametrize(
    ("template", "kernel"),
    [
        ("6PlanesINS0_7VectorsINS0_3F16EEELi7ELNS0_4TeamE1ELNS0_4ModeE0ELb0E", LARGE),
        (
            "5TilesINS0_8ElementsINS0_4BF16EEELi8ELNS0_4ModeE3ELb1E",
            Kernel("BF16", "tiles", False, 8, "", "gate", True),
        ),
        ("5SmallINS0_2S8ELi64ELb1ELb0E", Kernel("S8", "small", True, 64, "", "", False)),
        ("5SmallINS0_3F32ELi8ELb0ELb1E", Kernel("F32", "small", False, 8, "", "", True)),
    ],
)
def test_the_kernel_is_read_from_the_linkers_name(template: str, kernel: Kernel) -> None:
    assert sass.kernel_of(SYMBOL.format(template + "E")) == kernel


def test_a_name_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="_Z5otherv is no entry"):
        sass.kernel_of("_Z5otherv")


NAME = SYMBOL.format("6PlanesINS0_7VectorsINS0_3F16EEELi7ELNS0_4TeamE1ELNS0_4ModeE0ELb0EE")


def test_cuobjdump_is_read() -> None:
    usage = f"arch = sm_80\n Function {NAME}:\n  REG:74 STACK:8 SHARED:16 LOCAL:4 CONSTANT[0]:472\n"
    assert list(sass.read_usage(iter(usage.splitlines()))) == [Measured(LARGE, 80, 74, 12, 16)]
    code = f"""
\tcode for sm_80
\t\tFunction : {NAME}
        /*0000*/                   MOV R1, c[0x0][0x28] ;            /* 0x00000a0000017a02 */
                                                                     /* 0x000fe40000000f00 */
        /*0010*/              @!P0 LDG.E.NA.128 R4, [R2.64] ;        /* 0x000e220000002500 */
        /*0020*/              @UP1 UIADD3 UR4, -UR6, URZ, URZ ;      /* 0x000fe40000000f00 */
        /*10030*/                  NOP;                              /* 0x000fe40000000f00 */
\tcode for sm_90
\t\tFunction : {NAME}
        /*0000*/                   EXIT ;                            /* 0x00000a0000017a02 */
"""
    assert list(sass.read_code(iter(code.splitlines()))) == [
        (LARGE, 80, {"MOV": 1, "LDG.E.NA.128": 1, "UIADD3": 1}),
        (LARGE, 90, {"EXIT": 1}),
    ]


PTX = f""".version 9.0
.target sm_100
.entry {NAME}(
.param .align 8 .b8 {NAME}_param_0[120]
)
.maxntid 640
{{
.reg .b32 %r<340>;
ld.global.L1::no_allocate.v4.u32 {{%r1, %r2, %r3, %r4}}, [%rd1];
ret;

}}
"""


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("ret;", "ret;", []),
        ("ret;", "ld.global.nc.f32 %f1, [%rd2];", ["PTX: ld.global.nc: 1, allowed 0"]),
        ("ret;", "ld.global.L1::no_allocate.nc.f32 %f1, [%rd2];", ["PTX: ld.global.nc: 1, allowed 0"]),
        ("ret;", "barrier.cluster.arrive.aligned;", ["PTX: instructions of clusters: 1, allowed 0"]),
        ("ret;", "call.uni (r), other, (a);", ["PTX: calls: 1, allowed 0"]),
        (".reg", ".local .align 4 .b8 depot[8];\n.reg", ["PTX: .local: 1, allowed 0"]),
        (".maxntid 640\n", "", ["PTX: threads of a block: 0, allowed 640"]),
    ],
)
def test_ptx_is_read_and_judged(old: str, new: str, what: list[str]) -> None:
    (written,) = ptx.read_ptx(PTX.replace(old, new))
    assert (written.kernel, written.version, written.target) == (LARGE, "9.0", 100)
    found = [str(each) for each in rules.findings_in_ptx(written)]
    assert found == [f"{LARGE}, sm_100: {each}" for each in what]
