"""Lines of tegrastats as people recorded them on boards, and lines that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.health.tegrastats import Core, parse_tegrastats

# TX2, L4T 28: a board's log of 2018-08-23, published in a repository of test tools; the TX2 in its header.
_TX2_28 = (
    "RAM 4923/7850MB (lfb 360x4MB) CPU [33%@2034,42%@2033,100%@2036,22%@2035,61%@2034,43%@2035] EMC_FREQ 14%@1600 "
    "GR3D_FREQ 22%@1300 APE 150 MTS fg 0% bg 0% BCPU@53C MCPU@53C GPU@59C PLL@53C AO@50.5C Tboard@48C Tdiode@49.5C "
    "PMIC@100C thermal@52.1C VDD_IN 9273/9056 VDD_CPU 3716/3302 VDD_GPU 1430/1586 VDD_SOC 714/705 VDD_WIFI 0/0 "
    "VDD_DDR 1148/1198"
)
# TX2, L4T 32, not root: no clocks of EMC and GPU; the sample in a public log parser.
_TX2_32 = (
    "RAM 1404/7860MB (lfb 236x4MB) SWAP 0/3930MB (cached 0MB) CPU [0%@345,0%@960,0%@960,0%@345,0%@345,0%@345] "
    "EMC_FREQ 0% GR3D_FREQ 0% PLL@35.5C MCPU@35.5C PMIC@100C Tboard@30C GPU@32C BCPU@35.5C thermal@34.1C Tdiode@31.5C "
    "VDD_SYS_GPU 153/153 VDD_SYS_SOC 306/306 VDD_4V0_WIFI 0/0 VDD_IN 1649/1649 VDD_SYS_CPU 306/306 VDD_SYS_DDR 173/173"
)
# AGX Xavier, L4T 32: NVIDIA's forum, "thermal throttling", thread 109371.
_XAVIER_32 = (
    "RAM 7413/15683MB (lfb 1527x4MB) CPU [100%@1113,100%@1113,100%@1113,100%@1113,84%@1113,90%@1113,88%@1113,81%@1113] "
    "EMC_FREQ 0% GR3D_FREQ 99% AO@85.5C GPU@89C Tboard@82C Tdiode@85.75C AUX@83.5C CPU@89.5C thermal@86.95C PMIC@100C "
    "GPU 7078/7078 CPU 2996/2996 SOC 10164/10164 CV 0/0 VDDRQ 2085/2085 SYS5V 3686/3686"
)
# Xavier NX, L4T 35: brackets around the GPU's clock and mW behind the rails; the example in a public metrics collector.
_XAVIER_35 = (
    "RAM 2690/6854MB (lfb 6x1MB) SWAP 479/3427MB (cached 3MB) CPU [3%@1904,7%@1906,1%@1905,0%@1907,off,off] "
    "EMC_FREQ 0%@1600 GR3D_FREQ 0%@[510] VIC_FREQ 601 APE 150 AUX@39C CPU@39.5C AO@37.5C GPU@37.5C PMIC@50C "
    "VDD_IN 5079mW/5079mW VDD_CPU_GPU_CV 696mW/696mW VDD_SOC 1104mW/1104mW"
)
# AGX Orin, L4T 36: a date in front, lower-case sensors; the example in a public parser for that release.
_ORIN_36 = (
    "11-14-2024 12:34:56 RAM 3162/30536MB (lfb 6x4MB) SWAP 0/15268MB (cached 0MB) CPU [1%@729,0%@729,off] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305,305] cpu@47.968C soc0@46.906C gpu@46.343C cv0@-256C tj@47.968C "
    "VDD_GPU_SOC 3175mW/3175mW"
)


def test_tx2_of_l4t_28():
    found = parse_tegrastats(_TX2_28)
    assert found is not None
    assert found.memory == (4923, 7850)
    assert found.cores[2] == Core(100, 2036)
    assert (found.gpu, found.emc) == ((22, 1300), (14, 1600))
    assert (found.temperatures["BCPU"], found.temperatures["thermal"], len(found.temperatures)) == (53, 52.1, 9)
    assert found.rails == {
        "VDD_IN": 9273, "VDD_CPU": 3716, "VDD_GPU": 1430, "VDD_SOC": 714, "VDD_WIFI": 0, "VDD_DDR": 1148,
    }  # fmt: skip


def test_tx2_of_l4t_32_without_clocks():
    found = parse_tegrastats(_TX2_32)
    assert found is not None
    assert (found.gpu, found.emc) == ((0, None), (0, None))
    assert (len(found.cores), found.temperatures["Tboard"], found.rails["VDD_IN"]) == (6, 30, 1649)
    assert "SWAP" not in found.rails


def test_xavier_of_l4t_32_calls_rails_by_what_they_feed():
    found = parse_tegrastats(_XAVIER_32)
    assert found is not None
    assert found.rails == {"GPU": 7078, "CPU": 2996, "SOC": 10164, "CV": 0, "VDDRQ": 2085, "SYS5V": 3686}
    assert (found.temperatures["GPU"], found.gpu) == (89, (99, None))


def test_l4t_35_has_brackets_and_milliwatts():
    found = parse_tegrastats(_XAVIER_35)
    assert found is not None
    assert found.cores[3:] == (Core(0, 1907), None, None)
    assert (found.gpu, found.rails) == ((0, 510), {"VDD_IN": 5079, "VDD_CPU_GPU_CV": 696, "VDD_SOC": 1104})


def test_l4t_36_begins_with_the_date():
    found = parse_tegrastats(_ORIN_36)
    assert found is not None
    assert (found.gpu, found.temperatures["tj"], found.temperatures["cv0"]) == ((0, 305), 47.968, -256)
    assert found.rails == {"VDD_GPU_SOC": 3175}


@pytest.mark.parametrize("line", ["", "tegrastats: permission denied", "RAM ?/?MB", "SWAP 0/3930MB (cached 0MB)"])
def test_what_is_no_line_says_nothing(line):
    assert parse_tegrastats(line) is None


@pytest.mark.parametrize("part", ["RAM {}/7854MB", "CPU [{}%@2035]", "GR3D_FREQ {}%@140", "VDD_IN {}/4276", "GPU@{}C"])
def test_number_that_no_machine_has_never_raises(part):
    """It would end the thread that reads, and nobody would know."""
    parse_tegrastats("RAM 2235/7854MB (lfb 208x4MB) " + part.format("9" * 5000))
    parse_tegrastats(part.format("9" * 5000))


@given(st.text(), st.integers(0, len(_TX2_28)))
def test_a_line_that_is_cut_or_garbled_never_raises(text, cut):
    parse_tegrastats(text)
    parse_tegrastats(_TX2_28[:cut] + text)
