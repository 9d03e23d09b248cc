// moeut-data: from raw text to shards, and what is in them.
#include <fmt/format.h>

#include <cstdio>

#include "core/check.h"
#include "data/commands/commands.h"

namespace moeut {
namespace {

/// What is wrong with the file of --config, if it is that.
std::string explain_config(const CLI::ParseError& error, const CLI::App& app) {
  const std::string file = app.get_config_ptr()->as<std::string>();
  if (dynamic_cast<const CLI::FileError*>(&error) != nullptr)
    return fmt::format("--config '{}': it cannot be read; check the path", file);
  if (dynamic_cast<const CLI::ConfigError*>(&error) == nullptr) return "";
  std::string key = error.what();  // "INI was not able to parse SECTION.KEY"; a section as ".++"
  key = key.substr(key.rfind("parse ") == key.npos ? 0 : key.rfind("parse ") + 6);
  if (key.ends_with(".++")) key.resize(key.size() - 3);
  return fmt::format(
      "--config '{}': no command has '{}'; a section is the name of a command, its keys are the long options", file,
      key);
}

/// What is wrong with the command line, in one line.
std::string explain(const CLI::ParseError& error, const CLI::App& app) {
  if (std::string of_config = explain_config(error, app); !of_config.empty()) return of_config;
  const auto chosen = app.get_subcommands();
  if (!chosen.empty()) {
    const std::string command = chosen[0]->get_name();
    return fmt::format("{}: {}; moeut-data {} --help lists the arguments", command, error.what(), command);
  }
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  const auto unknown = app.remaining();
  return fmt::format("{}; the commands are {} (moeut-data --help says more)",
                     unknown.empty() ? "no command given" : fmt::format("unknown command '{}'", unknown[0]),
                     fmt::join(names, ", "));
}

int run(int argc, char** argv) {
  CLI::App app("From raw text to shards of token ids, and what is in them", "moeut-data");
  app.require_subcommand(1);
  app.footer(
      "Exit status: 0 done; 1 something on disk or in the data is wrong; 2 the command line is wrong; 3 stopped by a "
      "signal, and the same command goes on.");
  app.set_config("--config", "", "Values of options, TOML, a section for each command; those on the command line win")
      ->configurable(false);
  app.allow_config_extras(false);  // an unknown key is an error
  commands::declare_train_tokenizer(app);
  commands::declare_tokenize(app);
  commands::declare_inspect(app);
  commands::declare_verify(app);
  commands::declare_unigram_entropy(app);
  commands::declare_export_samples(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    throw ConfigError(explain(error, app));
  }
  require<IoError>(std::fflush(stdout) == 0, "cannot write to standard output");
  return 0;
}

}  // namespace
}  // namespace moeut

int main(int argc, char** argv) {
  try {
    return moeut::run(argc, argv);
  } catch (const moeut::commands::Stopped& stopped) {
    fmt::print(stderr, "{}\n", stopped.message);
    return 3;
  } catch (const moeut::ConfigError& error) {
    fmt::print(stderr, "moeut-data: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fflush(stdout);
    fmt::print(stderr, "moeut-data: {}\n", error.what());
    return 1;
  }
}
