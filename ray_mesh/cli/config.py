"""Commands about what configuration means: ``config explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from ray_mesh.cli import exits
from ray_mesh.cli.connection import connect
from ray_mesh.cli.explained import page
from ray_mesh.cli.output import Format, output_option, show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ray_mesh.explain.answer import Explanation
    from ray_mesh.explain.question import Question


_Command = TypeVar("_Command", bound="Callable[..., Any]")


@click.group()
def config() -> None:
    """Ask what configuration means."""


def _from_options(command: _Command) -> _Command:
    for option in (
        click.option("--from", "workload", metavar="NS/NAME", default="", help="The workload that calls."),
        click.option(
            "--from-gateway",
            "gateway",
            metavar="NS/NAME",
            default="",
            help="The Gateway, or ingress workload, that is called from outside.",
        ),
        click.option(
            "--from-labels", "labels", metavar="A=B,...", default="", help="Instead: a workload's labels,"
        ),
        click.option(
            "--from-namespace", "namespace", metavar="NS", default="default", help="its namespace [default],"
        ),
        click.option(
            "--from-account",
            "account",
            metavar="NAME",
            default="default",
            help="and its service account [default].",
        ),
    )[::-1]:
        command = option(command)
    return command


def _file_options(command: _Command) -> _Command:
    for option in (
        click.option(
            "-f",
            "--file",
            "files",
            multiple=True,
            metavar="FILE|FOLDER|-",
            help="Ask these documents instead of a running mesh; may be repeated.",
        ),
        click.option("-R", "--recursive", is_flag=True, help="With -f: folders in folders too."),
        click.option("--offline", is_flag=True, help="Ask no mesh: needs -f."),
        click.option(
            "-n", "--namespace", "own", default="", help="With -f: for documents that do not say theirs."
        ),
        click.option(
            "--to-labels",
            metavar="A=B,...",
            default="",
            help="With -f: more labels of what is called, where no file has a workload.",
        ),
        click.option(
            "--assume-services", is_flag=True, help="With -f: assume the Services that are only named."
        ),
    )[::-1]:
        command = option(command)
    return command


@config.command()
@click.argument("request", nargs=-1, required=True, metavar="[METHOD] URL")
@_from_options
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="A header; may be repeated."
)
@click.option("--client-ip", metavar="IP", default="192.0.2.1", help="Who calls a gateway.")
@click.option("--sni", metavar="NAME", default="", help="Server name of TLS. [default: the host]")
@_file_options
@output_option
@click.pass_context
def explain(
    context: click.Context,
    request: tuple[str, ...],
    workload: str,
    gateway: str,
    labels: str,
    namespace: str,
    account: str,
    headers: tuple[str, ...],
    client_ip: str,
    sni: str,
    files: tuple[str, ...],
    recursive: bool,
    offline: bool,
    own: str,
    to_labels: str,
    assume_services: bool,
    form: Format,
) -> None:
    """Say which document and line decides each step of a request: listener, host, route, destination,
    endpoints, policies, and how it ends.

    \b
    ray-mesh config explain --from default/productpage-v1 http://reviews:9080/reviews/0
    ray-mesh config explain --from-gateway default/bookinfo GET http://bookinfo.com:8080/productpage
    ray-mesh config explain --from-labels app=web CONNECT mysql:3306 -f manifests/

    Asks the running mesh, or with -f files alone. Exits with 80 when such requests, or a share of them,
    would be refused.
    """
    from ray_mesh.explain.question import Caller, ask

    if offline and not files:
        raise click.UsageError("--offline asks no mesh: name files with -f")
    if not files and (own or to_labels or assume_services):
        raise click.UsageError(
            "--namespace, --to-labels and --assume-services are for files: name them with -f"
        )
    if sum(map(bool, (workload, gateway, labels))) != 1:
        raise click.UsageError("say who calls, by one of --from, --from-gateway and --from-labels")
    if len(request) > 2:
        raise click.UsageError(f"a request is [METHOD] URL: {request[2]!r} is one word too many")
    pairs = tuple(sorted(_labels(labels).items()))
    caller = Caller(workload, gateway, pairs, namespace, account)
    method = request[0].upper() if len(request) == 2 else "GET"
    question = ask(caller, request[-1], method, _headers(headers), client_ip=client_ip, sni=sni)
    if files:
        told = _of_files(question, files, recursive, own, _labels(to_labels), assume_services)
    else:
        with connect(context) as mesh:
            told = mesh.explain(
                request[-1],
                method,
                workload=workload,
                gateway=gateway,
                labels=dict(pairs),
                namespace=namespace,
                service_account=account,
                headers=_headers(headers),
                client_ip=client_ip,
                sni=sni,
            )
    show(told, form, lambda: page(told))
    if told.is_refused:
        context.exit(exits.REFUSED)


def _of_files(
    question: Question,
    files: Sequence[str],
    recursive: bool,
    namespace: str,
    to_labels: dict[str, str],
    services: bool,
) -> Explanation:
    from ray_mesh.explain.explaining import explain as explain_world
    from ray_mesh.explain.offline import assumed_world, read_files
    from ray_mesh.sdk.documents import gather_named

    named = [(one.name, one.text) for one in gather_named(files, recursive=recursive)]
    read = read_files(named, namespace)
    world, assumed = assumed_world(
        read, to_labels, question.caller, services=services, port=question.port or 80
    )
    return explain_world(world, question, doubts=read.doubts, warnings=[*read.warnings, *assumed])


def _labels(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.strip().partition("=")
        if not name or not equals:
            raise click.UsageError(f"{pair!r} is no label: write app=reviews,version=v1")
        found[name] = value
    return found


def _headers(texts: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon:
            raise click.UsageError(f"{text!r} is no header: write 'end-user: jason'")
        found.append((name.strip(), value.strip()))
    return found
