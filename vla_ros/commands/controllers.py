# SPDX-License-Identifier: Apache-2.0
"""``vla-ros controllers``: the controllers of a robot that runs ros2_control."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import yaml

from vla_ros.commands.output import say
from vla_ros.errors import ConfigError

if TYPE_CHECKING:
    from vla_ros.nodes.controllers import ControllerManagerClient, Value

HELP = "list, load and switch ros2_control controllers, and set their gains"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--manager", default="/controller_manager", help="name of its node")
    parser.add_argument("--timeout-s", type=float, default=10.0, help="for one answer [s]")
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    actions.add_parser("list", help="controllers that are loaded, and their states")
    actions.add_parser("types", help="types of controller that could be loaded")
    for name, text in (("load", "load and configure"), ("unload", "unload")):
        sub = actions.add_parser(name, help=f"{text} controllers")
        sub.add_argument("names", nargs="+")
    switch = actions.add_parser("switch", help="activate and deactivate in one control period")
    switch.add_argument("--activate", nargs="*", default=[], metavar="NAME")
    switch.add_argument("--deactivate", nargs="*", default=[], metavar="NAME")
    switch.add_argument("--best-effort", action="store_true", help="do what is possible")
    gains = actions.add_parser("set-gains", help="set parameters of a controller, all or none")
    gains.add_argument("controller")
    gains.add_argument("values", nargs="+", metavar="NAME=VALUE", help="task.damping_ratio=0.9")
    show = actions.add_parser("get-gains", help="show parameters of a controller")
    show.add_argument("controller")
    show.add_argument("names", nargs="*")


def run(namespace: argparse.Namespace) -> int:
    """Ask the controller manager; 0 if it agreed."""
    from vla_ros.nodes.controllers import ControllerManagerClient
    from vla_ros.nodes.session import client_node

    values = parse_values(namespace.values) if namespace.action == "set-gains" else {}
    with client_node("vla_ros_controllers_client") as node:
        client = ControllerManagerClient(node, namespace.manager, namespace.timeout_s)
        for line in _ask(client, namespace, values):
            say(line)
    return 0


def parse_values(items: Sequence[str]) -> dict[str, Value]:
    """Return the values of ``name=value`` items; a value is written as in YAML.

    Raises:
        ConfigError: naming the item that is not of this form.
    """
    values: dict[str, Value] = {}
    for item in items:
        name, separator, text = item.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{item!r}: {text!r} is not a value") from error
        if not name or not separator or value is None or isinstance(value, dict):
            raise ConfigError(f"{item!r} must be name=value, for example task.damping_ratio=0.9")
        values[name] = value
    return values


def _ask(
    client: ControllerManagerClient, namespace: argparse.Namespace, values: dict[str, Value]
) -> Iterator[str]:
    """Do what was asked for and yield what to say about it."""
    match namespace.action:
        case "list":
            controllers = client.controllers()
            width = max((len(c.name) for c in controllers), default=0)
            for c in controllers:
                yield f"{c.name:<{width}}  {c.state:<12} {c.type}"
        case "types":
            yield from client.types()
        case "load":
            for name in namespace.names:
                client.load(name)
                yield f"{name} is loaded and configured"
        case "unload":
            for name in namespace.names:
                client.unload(name)
                yield f"{name} is unloaded"
        case "switch":
            client.switch(namespace.activate, namespace.deactivate, not namespace.best_effort)
            yield from (f"{c.name} is {c.state}" for c in client.controllers())
        case "set-gains":
            client.set_parameters(namespace.controller, values)
            yield from (f"{name} = {value}" for name, value in values.items())
        case "get-gains":
            parameters = client.get_parameters(namespace.controller, namespace.names)
            yield from (f"{name} = {value}" for name, value in parameters.items())
