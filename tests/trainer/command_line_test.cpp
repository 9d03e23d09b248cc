#include "trainer/command_line.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "trainer/text_util.h"

using namespace moeut;

namespace {

CommandLine parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "moeut-train");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

}  // namespace

TEST_CASE("the command line of moeut-train") {
  const CommandLine plain = parse({"a.yaml"});
  CHECK(plain.config == "a.yaml");
  CHECK(plain.resume == "auto");
  CHECK_FALSE(plain.dry_run);

  const CommandLine full = parse({"--dry-run", "runs/x=1/a.yaml", "train.steps=5", "--resume", "must",
                                  "optimizer.lr=-1", "--print-config", "sample.prompt=a b/c=d"});
  CHECK(full.config == "runs/x=1/a.yaml");
  CHECK(full.overrides == std::vector<std::string>{"train.steps=5", "optimizer.lr=-1", "sample.prompt=a b/c=d"});
  CHECK(full.resume == "must");
  CHECK(full.dry_run);
  CHECK(full.print_config);

  CHECK(parse({"a.yaml", "--resume=no"}).resume == "no");
  const CommandLine from = parse({"a.yaml", "--resume", "runs/b/checkpoints/step-00000010"});
  CHECK(from.resume == "runs/b/checkpoints/step-00000010");
  CHECK(parse({"--help"}).help);
}

TEST_CASE("a wrong command line is a ConfigError that says what to do") {
  CHECK_THROWS_WITH_AS(parse({"a.yaml", "--print-confg"}),
                       doctest::Contains("unknown flag \"--print-confg\"; did you mean --print-config?"), ConfigError);
  CHECK_THROWS_WITH_AS(parse({"a.yaml", "--dryrun"}), doctest::Contains("did you mean --dry-run?"), ConfigError);
  CHECK_THROWS_WITH_AS(parse({"a.yaml", "--train.steps=5"}),
                       doctest::Contains("write train.steps=5 without the dashes"), ConfigError);
  CHECK_THROWS_WITH_AS(parse({"a.yaml", "--resume", "atuo"}), doctest::Contains("did you mean auto?"), ConfigError);
  CHECK_THROWS_AS(parse({"a.yaml", "--resume"}), ConfigError);
  CHECK_THROWS_WITH_AS(parse({}), doctest::Contains("no configuration file"), ConfigError);
  CHECK_THROWS_WITH_AS(parse({"train.steps=5"}), doctest::Contains("no configuration file"), ConfigError);
  CHECK_THROWS_WITH_AS(parse({"a.yaml", "b.yaml"}), doctest::Contains("two configuration files"), ConfigError);
}

TEST_CASE("edit distance counts a swap of neighbours once") {
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("setps", "steps") == 1);
  CHECK(edit_distance("ca", "abc") == 3);  // optimal string alignment; the unrestricted distance would be 2
}

TEST_CASE("text for messages") {
  CHECK(is_utf8("aé€😀"));
  CHECK_FALSE(is_utf8("\xc0\x80"));      // overlong
  CHECK_FALSE(is_utf8("\xed\xa0\x80"));  // a surrogate
  CHECK_FALSE(is_utf8("\xf4\x90\x80\x80"));
  CHECK_FALSE(is_utf8("\xe2\x82"));
  CHECK(show_text("a\n\x1b\xff\"") == "\"a\\n\\u001b\\xff\\\"\"");
  CHECK(show_text("\xc2\x9b") == "\"\\u009b\"");
  CHECK(show_text(std::string(100, 'x'), 3) == "\"xxx\"... (100 bytes)");
}
