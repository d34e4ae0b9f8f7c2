"""From an installed bundle to a service that stays up: store, start, roll-back, watchdog, doctor."""
