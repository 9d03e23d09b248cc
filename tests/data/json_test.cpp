#include "data/json.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/check.h"

namespace moeut {
namespace {

TEST_CASE("a value written is the value read, numbers with all their bits") {
  const Json value(Json::Object{{"text", "a \"quoted\" \\ line\n\x01"},
                                {"largest", UINT64_MAX},
                                {"smallest", INT64_MIN},
                                {"whole", 3.0},
                                {"tenth", 0.1},
                                {"tiny", 5e-324},
                                {"flag", true},
                                {"nothing", Json()},
                                {"empty", Json::Array{}},
                                {"list", Json::Array{1, -2, "x"}}});
  for (const int indent : {-1, 2}) {
    const std::string text = value.dump(indent);
    const Json again = Json::parse(text);
    CHECK(again.dump(indent) == text);
    CHECK(again.at("text").as_string() == "a \"quoted\" \\ line\n\x01");
    CHECK(again.at("largest").as_uint64() == UINT64_MAX);
    CHECK(again.at("smallest").as_int64() == INT64_MIN);
    CHECK(again.at("tenth").as_double() == 0.1);
    CHECK(again.at("tiny").as_double() == 5e-324);
    CHECK(again.at("flag").as_bool());
    CHECK(again.at("list").as_array()[1].as_int64() == -2);
    CHECK(again.find("none") == nullptr);
  }
  CHECK(Json(Json::Object{{"a", 3.0}, {"b", Json::Array{}}}).dump() == R"({"a":3.0,"b":[]})");
  CHECK(Json(Json::Object{{"a", Json::Array{1}}}).dump(2) == "{\n  \"a\": [\n    1\n  ]\n}");
  CHECK(Json("\b\f\n\r\t\x7f/").dump() == "\"\\b\\f\\n\\r\\t\x7f/\"");
  CHECK_THROWS_AS(Json(std::nan("")).dump(), IoError);
}

TEST_CASE("a key may occur twice where the caller allows it; the last one counts") {
  const Json value = Json::parse(R"({"a":1,"b":2,"a":3})", {.repeated_keys = true});
  CHECK(value.at("a").as_int64() == 3);
  CHECK(value.at("b").as_int64() == 2);
}

TEST_CASE("what is not strict JSON is refused") {
  for (const char* text : {"", "{", "{\"a\":1,}", "{\"a\":1} x", "{'a':1}", "// c\n1", "NaN", "01", "\"\xff\"",
                           "{\"a\":1,\"a\":1}", "1e999"}) {
    INFO(text);
    CHECK_THROWS_AS(Json::parse(text), IoError);
  }
  CHECK_THROWS_AS(Json::parse(std::string_view("1\0002", 3)), IoError);
  CHECK_THROWS_WITH_AS(Json::parse("[[[1]]]", {.max_depth = 2}), doctest::Contains("deeper than 2"), IoError);
  CHECK_THROWS_WITH_AS(Json::parse("[1,1,1]", {.max_values = 3}), doctest::Contains("more than 3"), IoError);
  CHECK_THROWS_AS(Json::parse(std::string(1'000'000, '[')), IoError);
}

TEST_CASE("a value of another kind is named") {
  const Json value = Json::parse(R"({"a":-1,"b":"x"})");
  CHECK_THROWS_WITH_AS(value.at("a").as_uint64(), doctest::Contains("found a negative number"), IoError);
  CHECK_THROWS_WITH_AS(value.at("b").as_array(), doctest::Contains("expected an array, found a string"), IoError);
  CHECK_THROWS_WITH_AS(value.at("c"), doctest::Contains("\"c\" is missing"), IoError);
}

}  // namespace
}  // namespace moeut
