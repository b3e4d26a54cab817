#include "fields.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "logger.h"

namespace simam::trt {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

constexpr char kFieldVersion[] = "version";
constexpr int32_t kSerialisedVersion = kVersion;

struct Known {
  char const* name;
  float Fields::* value;
  bool scale;
};

constexpr Known kKnown[] = {{kLambda, &Fields::lambda, false},
                            {"x_scale", &Fields::x_scale, true},
                            {"residual_scale", &Fields::residual_scale, true},
                            {"y_scale", &Fields::y_scale, true}};
constexpr size_t kKnownCount = sizeof kKnown / sizeof *kKnown;

bool belongs(Known const& known, Op const& op) { return op.residual || known.value != &Fields::residual_scale; }

// One value of a type, wherever it lies.
template <class T>
T load(PluginField const& field) {
  T value;
  std::memcpy(&value, field.data, sizeof value);
  return value;
}

bool read_float(PluginField const& field, float& value) {
  if (field.data == nullptr || field.length != 1) return false;
  if (field.type == PluginFieldType::kFLOAT32) {
    value = load<float>(field);
  } else if (field.type == PluginFieldType::kFLOAT64) {
    value = static_cast<float>(load<double>(field));
  } else {
    return false;
  }
  return true;
}

// The version comes first: another one may have other fields.
bool check_version(Op const& op, char const* layer, PluginFieldCollection const& collection) {
  for (int32_t i = 0; i < collection.nbFields; ++i) {
    PluginField const& field = collection.fields[i];
    if (field.name == nullptr || std::strcmp(field.name, kFieldVersion) != 0) continue;
    if (field.data == nullptr || field.length != 1 || field.type != PluginFieldType::kINT32)
      return refuse(op.name, "layer '%.120s': the engine's field 'version' is no int32; the engine is damaged", layer);
    int32_t const version = load<int32_t>(field);
    if (version == kSerialisedVersion) return true;
    return refuse(op.name,
                  "layer '%.120s': the engine was built with version %d of the plugin and this library is version %d; "
                  "build the engine again, or load the library it was built with",
                  layer, static_cast<int>(version), static_cast<int>(kSerialisedVersion));
  }
  return refuse(op.name, "layer '%.120s': the engine has no field 'version' of the plugin; it is damaged", layer);
}

bool check_range(Op const& op, char const* layer, Known const& known, float value) {
  if (std::isfinite(value) && (known.scale ? value > 0 : value >= 0)) return true;
  return refuse(op.name, "layer '%.120s': %s is %g; it must be finite and %s", layer, known.name,
                static_cast<double>(value), known.scale ? "greater than 0" : "not negative");
}

}  // namespace

bool read_fields(Op const& op, char const* layer, PluginFieldCollection const* collection, TensorRTPhase phase,
                 Fields& fields) noexcept {
  if (layer == nullptr) layer = "";
  static constexpr PluginFieldCollection kNone{0, nullptr};
  if (collection == nullptr) collection = &kNone;
  if (collection->nbFields < 0 || (collection->nbFields > 0 && collection->fields == nullptr))
    return refuse(op.name, "layer '%.120s': the list of fields has %d entries and no data", layer,
                  static_cast<int>(collection->nbFields));
  bool const from_engine = phase == TensorRTPhase::kRUNTIME;
  if (from_engine && !check_version(op, layer, *collection)) return false;

  Fields read;
  bool given[kKnownCount] = {};
  for (int32_t i = 0; i < collection->nbFields; ++i) {
    PluginField const& field = collection->fields[i];
    char const* const name = field.name != nullptr ? field.name : "";
    if (from_engine && std::strcmp(name, kFieldVersion) == 0) continue;
    size_t k = 0;
    while (k < kKnownCount && (std::strcmp(kKnown[k].name, name) != 0 || !belongs(kKnown[k], op))) ++k;
    if (k == kKnownCount)
      return refuse(op.name,
                    "layer '%.120s': there is no field '%.60s'; there are e_lambda and, for int8, x_scale%s and "
                    "y_scale",
                    layer, name, op.residual ? ", residual_scale" : "");
    if (given[k]) return refuse(op.name, "layer '%.120s': the field '%s' is given twice", layer, name);
    if (!read_float(field, read.*kKnown[k].value))
      return refuse(op.name,
                    "layer '%.120s': the field '%s' must be one float of 32 or 64 bits; it has type %d and length %d",
                    layer, name, static_cast<int>(field.type), static_cast<int>(field.length));
    if (!check_range(op, layer, kKnown[k], read.*kKnown[k].value)) return false;
    given[k] = true;
  }
  if (!given[0])
    return refuse(op.name,
                  "layer '%.120s': the field 'e_lambda' is missing; say the model's own (1e-4 in the paper's code)",
                  layer);
  bool const quantised = given[1] || given[2] || given[3];
  for (size_t k = 1; k < kKnownCount; ++k)
    if (quantised && !given[k] && belongs(kKnown[k], op))
      return refuse(op.name,
                    "layer '%.120s': the field '%s' is missing; int8 needs all the scales: x_scale%s and y_scale",
                    layer, kKnown[k].name, op.residual ? ", residual_scale" : "");
  fields = read;
  return true;
}

void FieldList::add(char const* name, void const* value, PluginFieldType type) noexcept {
  fields_[static_cast<size_t>(collection_.nbFields++)] = PluginField(name, value, type, 1);
  collection_.fields = fields_.data();
}

void FieldList::advertise(Op const& op, bool scales) noexcept {
  collection_.nbFields = 0;
  for (Known const& known : kKnown)
    if (belongs(known, op) && (scales || !known.scale)) add(known.name, nullptr, PluginFieldType::kFLOAT32);
}

void FieldList::serialise(Op const& op, Fields const& fields) noexcept {
  collection_.nbFields = 0;
  add(kFieldVersion, &kSerialisedVersion, PluginFieldType::kINT32);
  for (Known const& known : kKnown)
    if (belongs(known, op) && (!known.scale || fields.quantised()))
      add(known.name, &(fields.*known.value), PluginFieldType::kFLOAT32);
}

}  // namespace simam::trt
