"""One member at work: the driver that turns events into effects done."""
