"""A new bundle for drones in the field, over SSH: copied, installed beside the old one, flown, watched, taken back."""
