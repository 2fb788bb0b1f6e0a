"""Money, energy and carbon of GPU-hours: products of what is known, each factor named."""

from __future__ import annotations

from mlsys_lab._core.hardware import Device
from mlsys_lab.capacity.interval import Interval


def cost_usd(gpu_hours: Interval | float, usd_per_gpu_hour: Interval | float) -> Interval:
    """Rent of so many GPU-hours."""
    return _interval(gpu_hours) * usd_per_gpu_hour


def rent(on: Device) -> Interval:
    """Dollars per GPU-hour between the cheapest and the dearest seller written down for the device.

    Raises:
        ValueError: none is; give a price.
    """
    low, high = on.usd_per_hour
    if not high:
        raise ValueError(f"no price is written down for {on.name}: give one, such as '2 USD/h'")
    return Interval(low, on.usd_per_hour_mid, high, "measured", (on.price_source,))


def energy_kwh(gpu_hours: Interval | float, watts: float, pue: float = 1.0) -> Interval:
    """Energy of so many GPU-hours.

    Args:
        gpu_hours: of all GPUs together.
        watts: that one GPU draws, host included where the figure is to hold it.
        pue: power usage effectiveness of the building, at least 1.
    """
    if watts <= 0 or pue < 1:
        raise ValueError(f"expected watts above 0 and a PUE of at least 1, got {watts:g} and {pue:g}")
    return _interval(gpu_hours) * (watts / 1000 * pue)


def co2_tonnes(kwh: Interval | float, grams_per_kwh: float) -> Interval:
    """Tonnes of CO2 equivalent.

    Args:
        kwh: energy at the meter.
        grams_per_kwh: of the grid, 429 for the US mean of arXiv 2104.10350.
    """
    if grams_per_kwh < 0:
        raise ValueError(f"grams per kWh are not negative, got {grams_per_kwh:g}")
    return _interval(kwh) * (grams_per_kwh / 1e6)


def _interval(value: Interval | float) -> Interval:
    return value if isinstance(value, Interval) else Interval.exact(float(value))
