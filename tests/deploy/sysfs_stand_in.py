"""A stand-in for a Jetson's sysfs: a folder with the files that `deploy.health` reads, to be changed while it runs."""

from pathlib import Path

# What a TX2 calls its zones (jetson/boards/jetson-tx2.yaml).
TX2 = ("BCPU-therm", "MCPU-therm", "GPU-therm", "PLL-therm", "Tboard_tegra", "Tdiode_tegra", "PMIC-Die")


class SysfsStandIn:
    """root: to be given to `Health`."""

    def __init__(self, root: Path, zones: tuple[str, ...] = TX2, degrees: float = 45.0) -> None:
        self.root = root
        self._zones = {name: f"sys/class/thermal/thermal_zone{number}" for number, name in enumerate(zones)}
        for name, folder in self._zones.items():
            self.write(f"{folder}/type", name)
            self.heat(name, 100.0 if name == "PMIC-Die" else degrees)
        self.write("sys/class/thermal/cooling_device0/type", "pwm-fan")
        self.write("sys/class/thermal/cooling_device0/cur_state", "3")
        self.write("sys/class/thermal/cooling_device1/type", "gpu-balanced")
        self.throttle(0)
        self.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "345600")
        self.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "2035200")
        self.write("sys/class/devfreq/17000000.gp10b/cur_freq", "1300500000")
        self.write("sys/class/devfreq/17000000.gp10b/max_freq", "1300500000")
        self.write("sys/bus/i2c/devices/0-0041/iio:device1/rail_name_0", "VDD_IN")
        self.write("sys/bus/i2c/devices/0-0041/iio:device1/in_power0_input", "4276")
        self.write("var/lib/nvpmodel/status", "pmode:0003 fmode:quiet")
        self.memory(3000)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() or path.is_symlink():
            path.unlink()
        path.write_text(text + "\n")

    def file(self, zone: str) -> Path:
        """Where a zone's temperature is."""
        return self.root / self._zones[zone] / "temp"

    def heat(self, zone: str, degrees: float) -> None:
        self.write(f"{self._zones[zone]}/temp", str(round(degrees * 1000)))

    def trip(self, zone: str, number: int, kind: str, degrees: float) -> None:
        self.write(f"{self._zones[zone]}/trip_point_{number}_type", kind)
        self.write(f"{self._zones[zone]}/trip_point_{number}_temp", str(round(degrees * 1000)))

    def throttle(self, state: int) -> None:
        self.write("sys/class/thermal/cooling_device1/cur_state", str(state))

    def memory(self, mib: int) -> None:
        self.write(
            "proc/meminfo",
            f"MemTotal:        8039304 kB\nMemFree:          100000 kB\nMemAvailable:    {mib * 1024} kB",
        )
