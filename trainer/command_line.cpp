#include "trainer/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "core/check.h"
#include "trainer/config_print.h"
#include "trainer/text_util.h"

namespace moeut {
namespace {

constexpr const char* kUsage =
    "moeut-train CONFIG.yaml [key.path=value ...] [--resume auto|must|no|PATH] [--force] [--dry-run] [--print-config] "
    "[--help]";

constexpr const char* kHelp = R"(
Trains the language model that CONFIG.yaml describes. key.path=value overrides a value of the file.

  --resume auto|must|no|PATH   auto (default): go on from the newest checkpoint that verifies, if there is one;
                               must: fail if there is none; no: begin at step 0; PATH: from this checkpoint
  --force                      resume although the order of the data or the tokenizer has changed since the checkpoint
  --dry-run                    check the configuration, print parameters and predicted memory, write nothing
  --print-config               print every value with its origin, write nothing
  --print-config-schema        print the JSON Schema of a configuration file
  --help                       print this

Exit status: 0 done, or already done; 1 something on disk, in the data or at run time is wrong;
2 the command line or the configuration is wrong, nothing was written; 3 stopped on request with a checkpoint.

Configuration keys
)";

/// "tran.steps=5" is an override with a mistake, "runs/a=b.yaml" a file: a key has no slash.
bool looks_like_override(const std::string& argument) {
  const size_t equals = argument.find('=');
  return equals != std::string::npos && argument.find('/') > equals;
}

/// A misspelt word looks like a path that does not exist.
void check_resume_policy(const std::string& policy) {
  static const std::vector<std::string> words{"auto", "must", "no"};
  require<ConfigError>(!policy.empty(), "command line: --resume needs auto, must, no or the path of a checkpoint");
  std::error_code error;
  if (std::ranges::count(words, policy) > 0 || std::filesystem::exists(policy, error)) return;
  const std::string guess = policy.find('/') == std::string::npos ? did_you_mean(policy, words) : "";
  require<ConfigError>(guess.empty(), "command line: --resume {}: no such checkpoint; did you mean {}?", policy, guess);
}

[[noreturn]] void refuse_flag(const std::string& flag) {
  static const std::vector<std::string> flags{
      "--resume", "--force", "--dry-run", "--print-config", "--print-config-schema", "--help"};
  const std::string key = flag.substr(std::min(flag.find_first_not_of('-'), flag.size()));
  require<ConfigError>(!looks_like_override(key) || key.find('.') == std::string::npos,
                       "command line: unknown flag {}; write {} without the dashes", show_text(flag), key);
  const std::string guess = did_you_mean(flag.substr(0, flag.find('=')), flags);
  throw ConfigError(fmt::format("command line: unknown flag {}{}; usage: {}", show_text(flag),
                                guess.empty() ? "" : fmt::format("; did you mean {}?", guess), kUsage));
}

void take_arguments(CommandLine& line, const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (looks_like_override(argument)) {
      line.overrides.push_back(argument);
    } else {
      require<ConfigError>(
          line.config.empty(),
          "command line: two configuration files, '{}' and {}; an override has the form key.path=value",
          line.config.string(), show_text(argument));
      require<ConfigError>(!argument.empty(), "command line: an empty argument");
      line.config = argument;
    }
  }
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine line;
  std::vector<std::string> arguments;
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  app.add_option("--resume", line.resume)->take_last();
  app.add_flag("--force", line.force);
  app.add_flag("--dry-run", line.dry_run);
  app.add_flag("--print-config", line.print_config);
  app.add_flag("--print-config-docs", line.print_config_docs);
  app.add_flag("--print-config-schema", line.print_config_schema);
  app.add_flag("-h,--help", line.help);
  app.add_option("arguments", arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    throw ConfigError(fmt::format("command line: {}; usage: {}", error.what(), kUsage));
  }
  for (const std::string& extra : app.remaining()) {
    if (extra.starts_with('-')) refuse_flag(extra);
    arguments.push_back(extra);
  }
  take_arguments(line, arguments);
  check_resume_policy(line.resume);
  require<ConfigError>(line.help || line.print_config_docs || line.print_config_schema || !line.config.empty(),
                       "command line: no configuration file given; usage: {}", kUsage);
  return line;
}

std::string train_help() {
  return fmt::format("usage: {}\n{}{}", kUsage, kHelp, config_help());
}

}  // namespace moeut
