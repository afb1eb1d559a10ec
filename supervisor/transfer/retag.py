"""Another name for an image, and an image unpacked that is here (containerd: core/transfer, tag)."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.errors import InvalidArgument
from supervisor.model.descriptor import Descriptor
from supervisor.model.image import Image
from supervisor.oci import image as documents
from supervisor.oci.image import Index, Manifest
from supervisor.transfer import walking
from supervisor.transfer.importing import unpack_stored
from supervisor.transfer.naming import Naming
from supervisor.transfer.progress import Progress, Report
from supervisor.transfer.stores import Scope
from supervisor.transfer.unpacking import Unpack
from supervisor.transfer.walking import Wanted


def retag(scope: Scope, name: str, naming: Naming, unpacks: Sequence[Unpack], report: Report) -> list[Image]:
    """Give the image `name` further names, and unpack it where asked; raises NotFound."""
    target = scope.image(name).target
    for one in unpacks:
        unpack_stored(scope, *_manifest(scope, target, one), [one], report)
    stored = [scope.name(image) for image in naming.of_target(target) if image.name != name]
    for image in stored:
        report(Progress("saved", image.name, descriptor=target))
    return stored


def _manifest(scope: Scope, target: Descriptor, one: Unpack) -> tuple[Descriptor, Manifest]:
    """The manifest for a platform, and where it is."""
    for _ in range(walking.MAX_DEPTH + 1):
        parsed = documents.parse(scope.document(target), target.media_type)
        if not isinstance(parsed, Index):
            return target, parsed
        target = Wanted((one.platform,), 1).of(parsed)[0].descriptor
    raise InvalidArgument(f"{target.digest}: indexes lie too deep in each other")
