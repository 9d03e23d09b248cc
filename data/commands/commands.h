// The subcommands of moeut-data. Each function adds one to `app`; it runs when the command line is parsed.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

namespace moeut::commands {

/// Thrown by a command that was asked to stop and that goes on when it is given again; exit status 3.
struct Stopped {
  std::string message;
};

void declare_train_tokenizer(CLI::App& app);
void declare_tokenize(CLI::App& app);
void declare_inspect(CLI::App& app);
void declare_verify(CLI::App& app);
void declare_unigram_entropy(CLI::App& app);
void declare_export_samples(CLI::App& app);

/// A Command holds what its options set: it lives as long as `app`, which runs it.
template <class Command>
void keep(CLI::App& app, const char* name, const char* what_it_does) {
  CLI::App* added = app.add_subcommand(name, what_it_does);
  auto command = std::make_shared<Command>();
  command->declare(*added);
  added->callback([command] { command->run(); });
}

}  // namespace moeut::commands
