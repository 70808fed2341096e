"""How much of a server's response is held in memory. Sizes in bytes."""

from __future__ import annotations

from llmstack.units import MB

MAX_ERROR_BYTES = MB  # of an error's body; the rest is left out
MAX_EVENT_BYTES = 8 * MB  # of one server-sent event; a picture in base64 needs about 4 MB
MAX_HELD_BYTES = 16 * MB  # of a whole response; a longer one is passed on as it comes
MAX_TRANSLATED_BYTES = 4 * MB  # of one event that is translated: 1 million tokens of text
