"""The one exception family for what a user can cause; it knows nothing about where the message is shown."""


class UserError(Exception):
    """Something the user can put right. The message is one line: the thing, what was found, what would do."""


def refuse(thing: object, found: object, remedy: str) -> UserError:
    """Make the error "thing: found; remedy", ready to be raised.

    >>> str(refuse("video.mp4", "no such file", "give the path of a video"))
    'video.mp4: no such file; give the path of a video'
    """
    return UserError("{}: {}; {}".format(thing, found, remedy))
