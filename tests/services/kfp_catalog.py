"""The pipelines and their versions that were uploaded to the KFP test server."""

from __future__ import annotations

import email
import email.policy
import uuid

import yaml

from tests.services.kfp_forms import read_body
from tests.services.kfp_listing import Json, Request, find_row, list_rows
from tests.services.kfp_pipeline import Pipeline, read_pipeline
from tests.services.kfp_run import now
from tests.services.refusal import RefusalError, UploadError

MAX_UPLOAD_BYTES = 32 << 20
_NO_PIPELINE = "Failed to create a pipeline and a pipeline version"
_NO_VERSION = "Failed to create a pipeline version"


class NoAnswerError(Exception):
    """The server does not answer at all within 60 s.

    Seen on a real 2.17.0 for an upload that is no YAML.
    """


class Catalog:
    """Pipelines and versions by id; one method per operation of the interface."""

    def __init__(self) -> None:
        self.pipelines: dict[str, Json] = {}
        self.versions: dict[str, Json] = {}

    def find_pipeline(self, reference: Json) -> Pipeline:
        """Return the pipeline that a run's reference means: a version, or the latest one."""
        wanted = reference.get("pipeline_version_id", "")
        if not wanted:
            versions = self._list_versions(reference.get("pipeline_id", ""))
            wanted = versions[-1]["pipeline_version_id"] if versions else "of the pipeline"
        return read_pipeline(find_row(self.versions, wanted, "PipelineVersion")["pipeline_spec"])

    def create_pipeline(self, request: Request) -> Json:
        """Add a pipeline without a version."""
        body = read_body("Pipeline", request.body)
        return self._add_pipeline(body.get("name") or body.get("display_name", ""), body)

    def get_pipeline(self, request: Request, pipeline_id: str) -> Json:
        """Give one pipeline."""
        return find_row(self.pipelines, pipeline_id, "Pipeline")

    def get_pipeline_by_name(self, request: Request, name: str) -> Json:
        """Give the pipeline of a name."""
        rows = {row["name"]: row for row in self.pipelines.values()}
        place = f"Failed to get a pipeline with name {name} and namespace . Check error stack."
        words = f"{place}: Failed to get a pipeline named {name} in namespace : "
        try:
            return rows[name]
        except KeyError:
            problem = f"Namespace/Pipeline /{name} not found"
            raise RefusalError(404, f"{words}ResourceNotFoundError: {problem}", problem) from None

    def list_pipelines(self, request: Request) -> Json:
        """Give the pipelines, filtered."""
        return list_rows("pipelines", list(self.pipelines.values()), request)

    def list_versions(self, request: Request, pipeline_id: str) -> Json:
        """Give the versions of a pipeline, filtered."""
        find_row(self.pipelines, pipeline_id, "Pipeline")
        return list_rows("pipeline_versions", self._list_versions(pipeline_id), request)

    def get_version(self, request: Request, pipeline_id: str, version_id: str) -> Json:
        """Give one version of a pipeline, with its spec."""
        return find_row(self.versions, version_id, "PipelineVersion")

    def upload_pipeline(self, request: Request) -> Json:
        """Add a pipeline and its first version from a file."""
        name, spec = _read_upload(request)
        if any(row["name"] == name for row in self.pipelines.values()):
            raise UploadError(409, _NO_PIPELINE)
        pipeline = self._add_pipeline(name, {"description": request.query.get("description", "")})
        self._add_version(pipeline["pipeline_id"], name, spec, request)
        return pipeline

    def upload_version(self, request: Request) -> Json:
        """Add a version to a pipeline from a file."""
        name, spec = _read_upload(request)
        pipeline_id = request.query.get("pipelineid", "")
        find_row(self.pipelines, pipeline_id, "Pipeline")
        return self._add_version(pipeline_id, name, spec, request)

    def _list_versions(self, pipeline_id: str) -> list[Json]:
        return [row for row in self.versions.values() if row["pipeline_id"] == pipeline_id]

    def _add_pipeline(self, name: str, body: Json) -> Json:
        if not name:
            raise RefusalError(400, "Invalid input error: pipeline's name cannot be empty")
        if any(row["name"] == name for row in self.pipelines.values()):
            problem = f"The name {name} already exists. Please specify a new name"
            problem = f"Failed to create a new pipeline. {problem}"
            words = "Failed to create a pipeline: Already exist error"
            raise RefusalError(409, f"{words}: {problem}", problem)
        made = {"pipeline_id": str(uuid.uuid4()), "name": name, "created_at": now()}
        made["display_name"] = body.get("display_name") or name
        if body.get("description"):
            made["description"] = body["description"]
        self.pipelines[made["pipeline_id"]] = made
        return made

    def _add_version(self, pipeline_id: str, name: str, spec: Json, request: Request) -> Json:
        if any(row["name"] == name for row in self._list_versions(pipeline_id)):
            raise UploadError(409, _NO_VERSION)
        made = {"pipeline_id": pipeline_id, "pipeline_version_id": str(uuid.uuid4()), "name": name}
        made |= {"display_name": name, "created_at": now(), "pipeline_spec": spec}
        if request.query.get("description"):
            made["description"] = request.query["description"]
        self.versions[made["pipeline_version_id"]] = made
        return made


def _read_upload(request: Request) -> tuple[str, Json]:
    """Return the name and the checked pipeline of an uploaded file (YAML, one document or two)."""
    head = f"Content-Type: {request.headers.get('Content-Type', '')}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
    parts = [
        part
        for part in message.iter_parts()
        if part.get_param("name", header="Content-Disposition") == "uploadfile"
    ]
    if not parts or len(request.body) > MAX_UPLOAD_BYTES:
        raise UploadError(400, "Failed to read a pipeline spec file")
    try:
        documents = list(yaml.safe_load_all(parts[0].get_payload(decode=True)))
    except yaml.YAMLError as exc:
        raise NoAnswerError from exc
    spec, *platforms = documents
    whole = {"pipeline_spec": spec, "platform_spec": platforms[0]} if platforms else spec
    try:
        read_pipeline(whole)
    except RefusalError as refusal:
        raise UploadError(400, f"{refusal.cause}: pipeline spec is invalid") from refusal
    query = request.query
    return query.get("name") or query.get("display_name") or parts[0].get_filename(), whole
