"""The Debian package of what flies: deploy/ with its service, user, rules and settings. Knows nothing of images."""
