// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bind.hpp"
#include "vla_ros_core/error.hpp"
#include "vla_ros_core/realtime.hpp"

namespace nb = nanobind;

NB_MODULE(_core, m)
{
  m.doc() = "Control host, impedance and admittance laws and shared-memory rings of vla_ros.";
  // Enums in module-level dictionaries of Python outlive the interpreter; that is no leak.
  nb::set_leak_warnings(false);
  nb::exception<vla_ros_core::Error>(m, "Error", PyExc_ValueError);
  m.def(
    "clock_id",
    []
    {
      const vla_ros_core::ClockId & id = vla_ros_core::clock_id();
      return nb::bytes(id.data(), id.size());
    },
    "Boot id of this host (16 bytes); zeros where it cannot be read.");
  m.def("monotonic_ns", &vla_ros_core::monotonic_ns, "Current CLOCK_MONOTONIC [ns].");
  m.def(
    "sleep_until_ns", &vla_ros_core::sleep_until_ns, nb::arg("deadline_ns"),
    nb::call_guard<nb::gil_scoped_release>(),
    "Sleep until an absolute CLOCK_MONOTONIC instant [ns].");
  m.def(
    "raise_thread_priority", &vla_ros_core::raise_thread_priority, nb::arg("wish"),
    "Give the calling thread the best scheduling permitted; returns what was obtained.");
  m.def(
    "set_thread_slice", &vla_ros_core::set_thread_slice, nb::arg("thread_id"), nb::arg("slice_ns"),
    "Give an ordinary thread (0: the calling one) a time slice [ns]; False if the kernel refuses.");
  vla_ros_core::python::bind_shm(m);
  vla_ros_core::python::bind_segments(m);
  vla_ros_core::python::bind_stamp(m);
  vla_ros_core::python::bind_control(m);
  vla_ros_core::python::bind_law(m);
  vla_ros_core::python::bind_admittance(m);
  nb::list names;
  for (auto item : nb::borrow<nb::dict>(m.attr("__dict__")))
  {
    const char * name = nb::cast<const char *>(item.first);
    if (name[0] != '_') names.append(item.first);
  }
  m.attr("__all__") = names;
}
