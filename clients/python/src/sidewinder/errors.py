"""What goes wrong, as exceptions."""


class SidewinderError(Exception):
    """Anything that this package raises."""


class Timeout(SidewinderError, TimeoutError):
    """The daemon did not answer, or nothing came, in the time given. The object can still be used."""


class ProtocolError(SidewinderError):
    """Something came that is not this protocol, or not this version of it."""


class NotAuthorised(SidewinderError):
    """The daemon wants keys, or others than those given."""


class _Reasoned(SidewinderError):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        """One word, as clients/PROTOCOL.md lists them."""
        self.message = message
        """A sentence for people."""


class Refused(_Reasoned):
    """The daemon does not take the stream: `full`, `in_use`, `bad_format`, `draining`, ..."""


class RequestError(_Reasoned):
    """The daemon could not do what was asked: `unknown_stream`, `bad_audio`, `too_many`, ..."""


class StreamClosed(_Reasoned):
    """The daemon ended the stream (`idle`, `control`, `shutdown`), or no longer knows it (`lost`)."""
