"""Column types: how values of `supervisor.model` lie in SQLite."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated
from typing import Any as Anything

from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary, Text
from sqlalchemy.orm import mapped_column
from sqlalchemy.types import TypeDecorator

from supervisor.model.activation import ActiveMount
from supervisor.model.any import Any
from supervisor.model.mount import Mount

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


class StringMap(TypeDecorator[Mapping[str, str]]):
    """Labels or annotations as a JSON object with sorted keys."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, str] | None, dialect: Dialect) -> str:
        """Encode."""
        return _encode(dict(value)) if value else "{}"

    def process_result_value(self, value: str | None, dialect: Dialect) -> Mapping[str, str]:
        """Decode."""
        return {} if value in (None, "{}") else dict(json.loads(value))


class AnyPayload(TypeDecorator[Any]):
    """A typed payload as one blob: the type's name, a zero byte, the bytes."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> bytes | None:
        """Encode."""
        return None if value is None else value.type_url.encode() + b"\0" + value.value

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any | None:
        """Decode."""
        if value is None:
            return None
        type_url, _, payload = value.partition(b"\0")
        return Any(type_url.decode(), payload)


class AnyMap(TypeDecorator[Mapping[str, Any]]):
    """Named payloads as a JSON object of [type, base64]."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str:
        """Encode."""
        if not value:
            return "{}"
        return _encode({k: [v.type_url, base64.b64encode(v.value).decode()] for k, v in value.items()})

    def process_result_value(self, value: str | None, dialect: Dialect) -> Mapping[str, Any]:
        """Decode."""
        if value in (None, "{}"):
            return {}
        return {k: Any(url, base64.b64decode(data)) for k, (url, data) in json.loads(value).items()}


class Mounts(TypeDecorator[Sequence[Mount]]):
    """Mounts as a JSON array of objects."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[Mount] | None, dialect: Dialect) -> str:
        """Encode."""
        return _compact([asdict(mount) for mount in value or ()])

    def process_result_value(self, value: str | None, dialect: Dialect) -> Sequence[Mount]:
        """Decode."""
        return tuple(_mount(item) for item in json.loads(value or "[]"))


class ActiveMounts(TypeDecorator[Sequence[ActiveMount]]):
    """Performed mounts as a JSON array of objects."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[ActiveMount] | None, dialect: Dialect) -> str:
        """Encode."""
        return _compact([asdict(active) for active in value or ()])

    def process_result_value(self, value: str | None, dialect: Dialect) -> Sequence[ActiveMount]:
        """Decode."""
        return tuple(ActiveMount(**{**i, "mount": _mount(i["mount"])}) for i in json.loads(value or "[]"))


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _mount(item: Mapping[str, Anything]) -> Mount:
    return Mount(item["type"], item["source"], tuple(item["options"]), item["target"])


# The column kinds that recur. Instants are nanoseconds since 1970, as in supervisor.model.instant.
Key = Annotated[str, mapped_column(Text, primary_key=True)]
RowId = Annotated[int, mapped_column(Integer, primary_key=True, autoincrement=True)]
Labels = Annotated[Mapping[str, str], mapped_column(StringMap)]
Instant = Annotated[int, mapped_column(BigInteger)]
OptionalInstant = Annotated[int | None, mapped_column(BigInteger)]
Payload = Annotated[Any | None, mapped_column(AnyPayload)]
