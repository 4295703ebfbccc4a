# SPDX-License-Identifier: Apache-2.0
"""Client of a ros2_control controller manager: list, load and switch controllers, set gains.

``controller_manager_msgs`` belongs to ros2_control and is imported when a manager is first asked
for something; everything else works without it.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rclpy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParametersAtomically
from rclpy.client import Client
from rclpy.node import Node

from vla_ros.errors import VlaRosError

# Values a parameter can hold here; lists are of one type.
Value = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]

_BEST_EFFORT, _STRICT = 1, 2
_FIELDS = {
    ParameterType.PARAMETER_BOOL: "bool_value",
    ParameterType.PARAMETER_INTEGER: "integer_value",
    ParameterType.PARAMETER_DOUBLE: "double_value",
    ParameterType.PARAMETER_STRING: "string_value",
    ParameterType.PARAMETER_BOOL_ARRAY: "bool_array_value",
    ParameterType.PARAMETER_INTEGER_ARRAY: "integer_array_value",
    ParameterType.PARAMETER_DOUBLE_ARRAY: "double_array_value",
    ParameterType.PARAMETER_STRING_ARRAY: "string_array_value",
}


class ControllerError(VlaRosError):
    """The controller manager or a controller refused or did not answer; the message says what."""


@dataclass(frozen=True)
class Controller:
    """A controller as its manager sees it.

    Args:
        state: ``unconfigured``, ``inactive``, ``active`` or ``finalized``.
        claimed: command interfaces it holds now.
    """

    name: str
    type: str
    state: str
    claimed: tuple[str, ...] = ()


class ControllerManagerClient:
    """Asks one controller manager and its controllers.

    Args:
        node: client node, spun by the calls below; nobody else may spin it.
        manager: name of the controller manager's node.
        timeout_s: longest wait for one answer [s].
    """

    def __init__(
        self, node: Node, manager: str = "/controller_manager", timeout_s: float = 10.0
    ) -> None:
        self._node, self._manager, self._timeout_s = node, manager.rstrip("/"), timeout_s

    def controllers(self) -> list[Controller]:
        """Return the controllers that are loaded, in the order of their names.

        Raises:
            ControllerError: if ros2_control is missing or the manager does not answer.
        """
        answer = self._ask_manager("ListControllers", "list_controllers")
        found = [
            Controller(c.name, c.type, c.state, tuple(c.claimed_interfaces))
            for c in answer.controller
        ]
        return sorted(found, key=lambda c: c.name)

    def types(self) -> list[str]:
        """Return the types of controller that could be loaded.

        Raises:
            ControllerError: as in :meth:`controllers`.
        """
        return sorted(self._ask_manager("ListControllerTypes", "list_controller_types").types)

    def load(self, name: str, configure: bool = True) -> None:
        """Load a controller that the manager's parameters describe, and configure it.

        Raises:
            ControllerError: if it cannot be loaded or configured; the manager's log says why.
        """
        self._require(f"load {name}", self._ask_manager("LoadController", name=name))
        if configure:
            self._require(f"configure {name}", self._ask_manager("ConfigureController", name=name))

    def unload(self, name: str) -> None:
        """Unload a controller that is not active.

        Raises:
            ControllerError: if it is active or unknown.
        """
        self._require(f"unload {name}", self._ask_manager("UnloadController", name=name))

    def switch(
        self, activate: Sequence[str] = (), deactivate: Sequence[str] = (), strict: bool = True
    ) -> None:
        """Activate and deactivate controllers in one control period.

        Args:
            activate: names of controllers.
            deactivate: names of controllers.
            strict: change nothing if any of it is impossible.

        Raises:
            ControllerError: if the manager refused.
        """
        answer = self._ask_manager(
            "SwitchController",
            activate_controllers=[*activate],
            deactivate_controllers=[*deactivate],
            strictness=_STRICT if strict else _BEST_EFFORT,
        )
        self._require(f"switch to {', '.join(activate) or 'nothing'}", answer)

    def get_parameters(self, controller: str, names: Sequence[str] = ()) -> dict[str, Value]:
        """Return parameters of a controller by name; all of them if none is named.

        Raises:
            ControllerError: if the controller does not answer or a name is unknown.
        """
        wanted = [*names]
        if not wanted:
            listed = self._ask(
                ListParameters, f"{controller}/list_parameters", ListParameters.Request()
            )
            wanted = sorted(listed.result.names)
        request = GetParameters.Request(names=wanted)
        answer = self._ask(GetParameters, f"{controller}/get_parameters", request)
        if len(answer.values) != len(wanted):
            raise ControllerError(f"{controller} does not have all of {', '.join(wanted)}")
        return {name: _from_value(v) for name, v in zip(wanted, answer.values, strict=True)}

    def set_parameters(self, controller: str, values: Mapping[str, Value]) -> None:
        """Set parameters of a controller, all or none.

        Raises:
            ControllerError: with the controller's reason, if it refused; nothing has changed then.
        """
        request = SetParametersAtomically.Request(
            parameters=[Parameter(name=n, value=_to_value(n, v)) for n, v in values.items()]
        )
        answer = self._ask(
            SetParametersAtomically, f"{controller}/set_parameters_atomically", request
        )
        if not answer.result.successful:
            raise ControllerError(f"{controller} refused: {answer.result.reason}")

    def _ask_manager(self, kind: str, service: str = "", **values: Any) -> Any:
        try:
            services = importlib.import_module("controller_manager_msgs.srv")
        except ImportError as error:
            raise ControllerError(
                "controller_manager_msgs is missing: source a ROS 2 with ros2_control "
                "(ros-<distribution>-ros2-control)"
            ) from error
        service_type = getattr(services, kind)
        name = service or _snake_case(kind)
        return self._ask(service_type, f"{self._manager}/{name}", service_type.Request(**values))

    def _ask(self, service_type: Any, name: str, request: Any) -> Any:
        client: Client[Any, Any] = self._node.create_client(service_type, name)
        try:
            deadline = time.monotonic() + self._timeout_s
            if not client.wait_for_service(self._timeout_s):
                raise ControllerError(f"no service {name} after {self._timeout_s:g} s")
            future = client.call_async(request)
            left_s = max(0.1, deadline - time.monotonic())
            rclpy.spin_until_future_complete(self._node, future, timeout_sec=left_s)
            if not future.done():
                raise ControllerError(f"{name} did not answer within {self._timeout_s:g} s")
            return future.result()
        finally:
            self._node.destroy_client(client)

    @staticmethod
    def _require(what: str, answer: Any) -> None:
        if not answer.ok:
            reason = getattr(answer, "message", "") or "the controller manager's log says why"
            raise ControllerError(f"could not {what}: {reason}")


def _snake_case(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def _from_value(value: ParameterValue) -> Value:
    field = _FIELDS.get(value.type)
    if field is None:
        return []
    result: Any = getattr(value, field)
    return list(result) if field.endswith("array_value") else result


def _to_value(name: str, value: Value) -> ParameterValue:
    is_list = isinstance(value, list | tuple)
    items: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    kinds = {type(item) for item in items}
    if kinds == {int, float}:
        kinds = {float}
    if len(kinds) != 1 or not kinds <= {bool, int, float, str}:
        raise ControllerError(f"{name} needs values of one type, got {value!r}")
    kind = kinds.pop().__name__
    field = {"bool": "bool", "int": "integer", "float": "double", "str": "string"}[kind]
    full = f"{field}_array_value" if is_list else f"{field}_value"
    number = next(number for number, text in _FIELDS.items() if text == full)
    if kind == "float":
        items = [float(item) for item in items]
    return ParameterValue(type=number, **{full: list(items) if is_list else items[0]})
