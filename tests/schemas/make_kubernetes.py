"""Make kubernetes.json: the schemas of the kinds that deploy/kubernetes uses, without descriptions.

    python tests/schemas/make_kubernetes.py SCHEMAS CRD …

``SCHEMAS`` is the folder of a version in PyPI's package kubernetes-validate, whose name ends in
``-local-strict``; each ``CRD`` is a file with a CustomResourceDefinition, of KEDA and of the
Prometheus Operator. What no schema names is refused, as `kubectl apply --validate=strict` does.
docs/how-to/kubernetes.md has the versions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

TARGET = Path(__file__).with_name("kubernetes.json")
#: By the file of kubernetes-validate.
KINDS = {
    "configmap-v1": "v1 ConfigMap",
    "deployment-apps-v1": "apps/v1 Deployment",
    "networkpolicy-networking-v1": "networking.k8s.io/v1 NetworkPolicy",
    "poddisruptionbudget-policy-v1": "policy/v1 PodDisruptionBudget",
    "service-v1": "v1 Service",
}


def bare(schema: Any) -> Any:
    """Return a schema without its texts, and with references into the one file."""
    if isinstance(schema, list):
        return [bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: bare(value) for name, value in schema.items() if not _is_text(name, value)}
    if isinstance(reference := kept.get("$ref"), str):
        kept["$ref"] = "#/$defs/" + reference.rpartition("/")[2]
    return kept


def _is_text(name: str, value: object) -> bool:
    is_remark = name == "description" and isinstance(value, str)
    return is_remark or name in {"$id", "$schema"} or name.startswith("x-kubernetes-")


def strict(schema: Any) -> Any:
    """Have the objects of a CustomResourceDefinition refuse what they do not name."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: strict(value) for name, value in schema.items()}
    is_object = kept.get("type") == "object" and isinstance(kept.get("properties"), dict)
    return {"additionalProperties": False, **kept} if is_object else kept


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.rpartition("/")[2]
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            yield from references(each)


def of_kubernetes(folder: Path) -> dict[str, Any]:
    """Return the schemas of Kubernetes' own kinds, and of all that they refer to."""
    defined = json.loads((folder / "_definitions.json").read_text("utf-8"))["$defs"]
    made = {
        kind: bare(json.loads((folder / f"{file}.json").read_text("utf-8")))
        for file, kind in KINDS.items()
    }
    missing = list(references(list(made.values())))
    while missing:
        name = missing.pop()
        if name not in made:
            made[name] = bare(defined[name])
            missing += references(made[name])
    return made


def of_definition(file: Path) -> tuple[str, Any]:
    """Return the kind and the schema of a CustomResourceDefinition."""
    spec = yaml.safe_load(file.read_text("utf-8"))["spec"]
    version = next(each for each in spec["versions"] if each["storage"])
    schema = strict(bare(version["schema"]["openAPIV3Schema"]))
    schema["properties"]["metadata"] = {
        "$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    }
    return f"{spec['group']}/{version['name']} {spec['names']['kind']}", schema


def main(folder: str, *files: str) -> None:
    made = of_kubernetes(Path(folder)) | dict(of_definition(Path(file)) for file in files)
    version = json.dumps(Path(folder).name)
    lines = (f"{json.dumps(name)}: {json.dumps(made[name])}" for name in sorted(made))
    TARGET.write_text(
        f'{{"$comment": {version}, "$defs": {{\n' + ",\n".join(lines) + "\n}}\n", "utf-8"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
