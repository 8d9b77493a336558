"""The debugger: a local Segment endpoint that shows what arrives, as it arrives.

    with Debugger(port=8765).server:
        ...                             # deliver to http://127.0.0.1:8765, and open it in a browser

What arrives is read into records, compared with the rules of a message (``CHECKS``) and kept by
``Store``. ``Search`` finds in it. ``Failures`` are what the endpoint is told to do wrong. The pages
and the API show and change these; all but the two work without the extra ``web``.
"""

from __future__ import annotations

from celery_segment.web.debugger.endpoint import Debugger

__all__ = ["Debugger"]
