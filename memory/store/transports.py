"""What asyncio does not offer: to let go of a connection whose event loop has ended.

A store that was not closed before its loop ended has connections left. Their transports close themselves by way of that
loop only, so each would keep its socket, and warn about it, until the process ends. All that is private to asyncio's
transports is said here.
"""

from __future__ import annotations

from typing import Any


def abandon(transport: Any) -> bool:
    """Close the socket below a transport, with TLS or without, and say whether that is done.

    False: its loop goes on and was asked to; or the transport is of a kind that keeps its socket to itself.
    """
    plain: Any = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None) or transport
    loop, socket = getattr(plain, "_loop", None), getattr(plain, "_sock", None)
    if loop is not None and not loop.is_closed():
        loop.call_soon_threadsafe(transport.abort)
        return False
    if socket is not None:
        socket.close()
        plain._sock, plain._closing = None, True
    if transport is not plain:
        transport._closed = True
    return socket is not None
