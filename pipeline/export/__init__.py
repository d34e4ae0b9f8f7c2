"""From a finished trial to a bundle, with the check that nothing changed on the way."""
