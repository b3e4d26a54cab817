// Words for the host, through its ILogger. A host that gave no ILoggerFinder, or one that cannot be understood, hears
// nothing: a plugin does not write to the streams of another's process.
#pragma once

#include <cstdint>

#include <NvInferRuntime.h>

namespace simam::trt {

// The finder is kept until another one, or null, is given; it must live that long.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

using Severity = nvinfer1::ILogger::Severity;

[[gnu::format(printf, 2, 3)]] void log(Severity severity, char const* format, ...) noexcept;

// An error, in the name of an operator: "SimAM: " and what is said. Gives false, for `return refuse(...)`.
[[gnu::format(printf, 2, 3)]] bool refuse(char const* name, char const* format, ...) noexcept;

}  // namespace simam::trt
