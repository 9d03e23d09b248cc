#include "trainer/config_print.h"

#include <fmt/format.h>

#include <iterator>

#include "trainer/config_fields.h"
#include "trainer/text_util.h"

namespace moeut {
namespace {

std::string_view name_of(const Field& field) {
  return std::string_view(field.key).substr(field.key.rfind('.') + 1);
}

/// Calls begin(section) where a new section starts and each(field) for every field.
template <class Begin, class Each>
void visit_sections(Begin&& begin, Each&& each) {
  std::string_view current;
  for (const Field& field : config_fields()) {
    const std::string_view section = section_of(field.key);
    if (section != current && !section.empty()) begin(section);
    current = section;
    each(field);
  }
}

/// The value as YAML that reads back to it. Texts and paths are always quoted: `yes`, `1e3` and ` ` stay texts.
std::string yaml_value(const Field& field, const FieldValue& value) {
  const bool quoted = field.type == FieldType::text || field.type == FieldType::path;
  return quoted ? quote_text(value_text(value)) : value_text(value);
}

std::string yaml_line(const Field& field, const FieldValue& value) {
  const bool top = section_of(field.key).empty();
  return fmt::format("{}{}: {}", top ? "" : "  ", name_of(field), yaml_value(field, value));
}

std::string range_and_unit(const Field& field) {
  std::string text = field.range.str();
  if (!field.unit.empty()) text += fmt::format("{}{}", text.empty() ? "" : " ", field.unit);
  return text;
}

/// A comment in the place of a value that is not set, so that the profile's or the constructor's holds.
std::string unset_line(const Field& field, bool by_default) {
  return fmt::format("  # {}:{}", name_of(field), by_default ? " " + field.default_text : "");
}

std::string markdown_cell(std::string text) {
  for (size_t i = 0; (i = text.find('|', i)) != std::string::npos; i += 2) text.insert(i, "\\");
  return text;
}

constexpr const char* kMarkdownIntroduction =
    R"(<!-- Written by scripts/generate-docs from trainer/config_fields.cpp; do not edit. -->
# Configuration

`moeut-train CONFIG.yaml [key.path=value ...]`: a YAML file of the sections below, and overrides that win over it.
`moeut-train CONFIG.yaml --print-config` shows every value with its origin (default, profile, file and line, command line); the
resolved configuration of a run is `config.yaml` in its folder and can be trained again as it is.

- All mistakes are reported at once, each with `file:line:column`, the key, the value found and the values allowed; exit status 2.
- Unknown keys are errors. A key given twice, YAML aliases, a second document and files over 1 MiB are refused.
- `extends: FILE` takes everything that FILE sets, relative to the folder of the file that says so; what is set beside it wins. FILE may extend
  another one, up to 8 in all. Errors and `--print-config` name the file that set a value.
- [config.schema.json](config.schema.json) is the same table as a JSON Schema, for editors
  (`# yaml-language-server: $schema=../docs/config.schema.json`); `moeut-train --print-config-schema` prints it.
- A section may be written as `train:` with indented keys or key by key as `train.steps: 100`.
- Relative paths are relative to the current folder.
- true and false may also be written yes/no, on/off, 1/0.
)";

}  // namespace

std::string config_help() {
  std::string text;
  const auto begin = [&](std::string_view section) { text += fmt::format("\n{}:\n", section); };
  visit_sections(begin, [&](const Field& field) {
    std::string details = type_text(field);
    if (const std::string range = range_and_unit(field); !range.empty()) details += ", " + range;
    if (!field.required) details += "; default " + field.default_text;
    text += fmt::format("  {:<28} {}\n  {:<28} [{}{}]\n", field.key, field.help, "", field.required ? "required; " : "",
                        details);
  });
  return text;
}

std::string print_config(const LoadedConfig& loaded) {
  std::string text;
  const auto begin = [&](std::string_view section) { text += fmt::format("{}:\n", section); };
  visit_sections(begin, [&](const Field& field) {
    const FieldValue value = field.get(loaded.config);
    const std::string origin = loaded.origin_text(field.key);
    const bool is_set = !std::holds_alternative<std::monostate>(value);
    const std::string line = is_set ? yaml_line(field, value) : unset_line(field, origin == "default");
    text += fmt::format("{:<44} # {}\n", line, origin);
  });
  return text;
}

std::string config_yaml(const RunConfig& config) {
  std::string text;
  const auto begin = [&](std::string_view section) { text += fmt::format("{}:\n", section); };
  visit_sections(begin, [&](const Field& field) {
    const FieldValue value = field.get(config);
    if (!std::holds_alternative<std::monostate>(value)) text += yaml_line(field, value) + "\n";
  });
  return text;
}

std::string config_markdown() {
  std::string text = kMarkdownIntroduction;
  const auto begin = [&](std::string_view section) {
    text += fmt::format(
        "\n## {}\n\n| key | type | range, unit | default | meaning |\n| --- | --- | --- | --- | --- |\n", section);
  };
  begin("run");
  visit_sections(
      [&](std::string_view section) {
        if (section != "run") begin(section);
      },
      [&](const Field& field) {
        text += fmt::format("| `{}` | {} | {} | {} | {} |\n", field.key, markdown_cell(type_text(field)),
                            range_and_unit(field), field.default_text, markdown_cell(field.help));
      });
  return text;
}

}  // namespace moeut
