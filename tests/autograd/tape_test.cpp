#include "autograd/tape.h"

#include "autograd/ops/add.h"
#include "autograd/ops/linear.h"
#include "core/memory.h"
#include "tests/testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

/// y = factor · x, and what its backward saw.
Variable scaled(Tape& tape, const Variable& x, double factor, std::vector<double>* log = nullptr) {
  Tensor y = Tensor::empty(x.shape(), DType::f64);
  for (int64_t i = 0; i < y.size(); ++i) y.data<double>()[i] = factor * x.value().data<double>()[i];
  return tape.record(y, {x}, [factor, log](const Tensor& dy, InputGradients& in) {
    if (log != nullptr) log->push_back(factor);
    const GradientTarget dx = in.target(0);
    for (int64_t i = 0; i < dy.size(); ++i) {
      double& g = dx.tensor.data<double>()[i];
      g = (dx.mode == Mode::accumulate ? g : 0) + factor * dy.data<double>()[i];
    }
  });
}

Parameter parameter(const std::string& name, double value) {
  return {.name = name, .value = f64({value}, {1})};
}

const Tensor kOne = f64({1}, {1});

}  // namespace

TEST_CASE("tape: backward runs last to first") {
  Tape tape;
  std::vector<double> log;
  const Variable x = tape.leaf(kOne);
  const Variable y = scaled(tape, scaled(tape, scaled(tape, x, 2, &log), 3, &log), 5, &log);
  tape.backward_from({{y, kOne}});
  CHECK(log == std::vector<double>{5, 3, 2});
  CHECK(x.gradient().item() == 30);
}

TEST_CASE("tape: nodes off the way to the roots are skipped, their parameters still end") {
  Tape tape;
  std::vector<double> log;
  Parameter used = parameter("used", 1), idle = parameter("idle", 1);
  std::vector<std::string> finished;
  tape.on_final_gradient = [&](Parameter& p) { finished.push_back(p.name); };
  const Variable y = scaled(tape, tape.parameter(used), 2, &log);
  scaled(tape, tape.parameter(idle), 3, &log);
  tape.backward_from({{y, kOne}});
  CHECK(log == std::vector<double>{2});
  CHECK(finished == std::vector<std::string>{"idle", "used"});
  CHECK(used.has_gradient);
  CHECK_FALSE(idle.has_gradient);
}

TEST_CASE("tape: a node frees what it saved as soon as it has run") {
  constexpr int64_t kElements = 1 << 16;
  constexpr size_t kBytes = kElements * sizeof(double);
  const size_t before = memory_stats(Device::cpu()).in_use;
  std::vector<size_t> in_use;
  Tape tape;
  Variable h = tape.leaf(kOne);
  for (int node = 0; node < 4; ++node) {
    const Tensor saved = Tensor::zeros({kElements}, DType::f64);
    h = tape.record(kOne.clone(), {h}, [saved, &in_use](const Tensor& dy, InputGradients& in) {
      in_use.push_back(memory_stats(Device::cpu()).in_use);
      in.contribute(0, dy);
    });
  }
  tape.backward_from({{h, kOne}});
  REQUIRE(in_use.size() == 4);
  for (size_t i = 0; i < 4; ++i) {  // while node i runs, it and those before it in the forward pass hold their memory
    CHECK(in_use[i] - before >= (4 - i) * kBytes);
    CHECK(in_use[i] - before < (4 - i) * kBytes + kBytes / 2);
  }
  h = Variable();
  CHECK(memory_stats(Device::cpu()).in_use - before < kBytes / 2);
}

TEST_CASE("tape: with recording off nothing is kept") {
  const auto token = std::make_shared<int>(0);
  Tape tape(Tape::Recording::off);
  Parameter p = parameter("p", 3);
  const Variable x = tape.parameter(p), leaf = tape.leaf(kOne);
  CHECK_FALSE(x.needs_gradient());
  CHECK_FALSE(leaf.needs_gradient());
  const Variable y = tape.record(kOne.clone(), {x, leaf}, [token](const Tensor&, InputGradients&) {});
  CHECK(token.use_count() == 1);
  CHECK_FALSE(y.needs_gradient());
  CHECK_THROWS_WITH_AS(tape.backward({{y}}),
                       "backward: nothing here depends on a parameter (the tape is not recording)", ShapeError);
}

TEST_CASE("tape: constants and frozen parameters are not recorded") {
  const auto token = std::make_shared<int>(0);
  Tape tape;
  Parameter frozen = parameter("frozen", 3);
  frozen.trainable = false;
  const Variable y =
      tape.record(kOne.clone(), {Variable(kOne), tape.parameter(frozen)}, [token](const Tensor&, InputGradients&) {});
  CHECK(token.use_count() == 1);
  CHECK_FALSE(y.needs_gradient());
}

TEST_CASE("tape: a constant among the inputs is not wanted") {
  Tape tape;
  const Variable x = tape.leaf(kOne);
  std::vector<bool> wanted;
  const Variable y = tape.record(kOne.clone(), {Variable(kOne), x, Variable()}, [&](const Tensor&, InputGradients& in) {
    for (size_t i = 0; i < 3; ++i) wanted.push_back(in.wanted(i));
  });
  tape.backward_from({{y, kOne}});
  CHECK(wanted == std::vector<bool>{false, true, false});
}

TEST_CASE("tape: on_final_gradient comes once, right after the last use, with the whole gradient") {
  Tape tape;
  Parameter early = parameter("early", 1), late = parameter("late", 1), both = parameter("both", 1);
  std::vector<std::pair<std::string, double>> finished;
  std::vector<double> log;
  tape.on_final_gradient = [&](Parameter& p) {
    finished.emplace_back(p.name, p.gradient.item());
    log.push_back(0);
  };
  const Variable a = scaled(tape, tape.parameter(early), 2, &log);
  const Variable b = scaled(tape, tape.parameter(both), 3, &log);
  const Variable c = scaled(tape, tape.parameter(both), 5, &log);
  const Variable d = scaled(tape, tape.parameter(late), 7, &log);
  tape.backward({{a}, {b}, {c}, {d}});
  CHECK(finished == std::vector<std::pair<std::string, double>>{{"late", 7}, {"both", 8}, {"early", 2}});
  CHECK(log == std::vector<double>{7, 0, 5, 3, 0, 2, 0});
}

TEST_CASE("tape: parameters gather over tapes until cleared, then start from nothing") {
  Parameter p = parameter("p", 1);
  const auto pass = [&](double factor) {
    Tape tape;
    tape.backward({{scaled(tape, tape.parameter(p), factor)}});
  };
  pass(2);
  pass(3);
  CHECK(p.gradient.item() == 5);
  p.clear_gradient();
  p.gradient.data<double>()[0] = std::nan("");  // what is there must not be read
  pass(7);
  CHECK(p.gradient.item() == 7);
}

TEST_CASE("tape: roots are weighted, and their seeds are left as they were") {
  Tape tape;
  const Variable x = tape.leaf(kOne);
  const Variable a = scaled(tape, x, 2), b = scaled(tape, x, 3);
  tape.backward({{a, 10}, {b, 100}});
  CHECK(x.gradient().item() == 320);

  Tape other;
  const Variable y = other.leaf(kOne);
  const Variable z = ops::add(other, y, y);
  const Tensor seed = f64({4}, {1});
  other.backward_from({{z, seed}, {z, seed}});  // one value twice: its gradients add up
  CHECK(y.gradient().item() == 16);
  CHECK(seed.item() == 4);
}

TEST_CASE("tape: a root that needs no gradient is passed over beside one that does") {
  Tape tape;
  const Variable x = tape.leaf(kOne);
  tape.backward({{scaled(tape, x, 2)}, {Variable(kOne)}});
  CHECK(x.gradient().item() == 2);
}

TEST_CASE("tape: a gradient is handed on without a copy where nothing else reads it") {
  Tape tape;
  const Variable x = tape.leaf(Tensor::zeros({4}, DType::f64)), y = tape.leaf(Tensor::zeros({4}, DType::f64));
  const Variable z = ops::add(tape, x, y);
  const Tensor seed = random_tensor({4}, 1);
  tape.backward_from({{z, seed}});
  CHECK(x.gradient().raw() == seed.raw());
  CHECK(y.gradient().raw() == seed.raw());
}

TEST_CASE("tape: one parameter as two inputs of a node") {
  // y = x · xᵀ for a 1 × 1 x = 3: dy/dx = 2x, from two targets that are held at once or one after the other.
  Tape tape;
  Parameter p{.name = "p", .value = f64({3}, {1, 1})};
  const Variable x = tape.parameter(p);
  tape.backward({{ops::linear(tape, x, x)}});
  CHECK(p.gradient.item() == 6);

  Parameter q = parameter("q", 3);
  Tape held;
  const Variable v = held.parameter(q);
  const Variable y = held.record(kOne.clone(), {v, v}, [](const Tensor&, InputGradients& in) {
    const GradientTarget first = in.target(0), second = in.target(1);
    CHECK(first.tensor.raw() != second.tensor.raw());
    for (const GradientTarget& t : {second, first}) {
      CHECK(t.mode == Mode::overwrite);
      t.tensor.data<double>()[0] = 5;
    }
  });
  held.backward({{y}});
  CHECK(q.gradient.item() == 10);
}

TEST_CASE("tape: an operation with several outputs runs once, with the gradients that there are") {
  Tape tape;
  const Variable x = tape.leaf(kOne);
  std::vector<std::vector<bool>> reached;
  const auto split = [&](const Variable& v) {
    return tape.record_joint({f64({2}, {1}), f64({3}, {1})}, {v}, [&](std::vector<Tensor> dy, InputGradients& in) {
      reached.push_back({dy[0].defined(), dy[1].defined()});
      for (const Tensor& d : dy) {
        if (d.defined()) in.contribute(0, d);
      }
    });
  };
  const std::vector<Variable> a = split(x), b = split(a[0]);
  split(b[0]);  // leads nowhere
  CHECK(b[1].value().item() == 3);
  tape.backward({{b[1], 10}, {a[0], 100}, {a[1], 1000}});
  CHECK(reached == std::vector<std::vector<bool>>{{false, true}, {true, true}});
  CHECK(x.gradient().item() == 1110);
}

TEST_CASE("tape: deferred work runs once, at the last use") {
  struct Sum : DeferredGradient {
    double total = 0;
    void run(const GradientTarget& target) override {
      CHECK(target.mode == Mode::overwrite);
      target.tensor.data<double>()[0] = total;
    }
  };
  Tape tape;
  Parameter p = parameter("p", 1);
  std::vector<Variable> uses;
  for (const double part : {1, 10, 100}) {
    uses.push_back(tape.record(kOne.clone(), {tape.parameter(p)}, [&p, part](const Tensor&, InputGradients& in) {
      REQUIRE(in.deferrable(0));
      in.deferred<Sum>(0).total += part;
      CHECK_FALSE(p.has_gradient);
    }));
  }
  tape.backward({{uses[0]}, {uses[1]}, {uses[2]}});
  CHECK(p.gradient.item() == 111);
}

TEST_CASE("tape: errors") {
  Tape tape;
  const Variable wide = tape.leaf(Tensor::zeros({2}, DType::f64));
  CHECK_THROWS_WITH_AS(tape.backward({{wide}}), "backward: a root must be a scalar, not f64 (2) on cpu", ShapeError);
  CHECK_THROWS_WITH_AS(tape.backward({{Variable(kOne)}}), "backward: nothing here depends on a parameter", ShapeError);
  CHECK_THROWS_WITH_AS(tape.backward_from({{wide, kOne}}),
                       "backward: f64 (2) on cpu cannot start from a gradient of shape (1)", ShapeError);
  const Variable y = scaled(tape, tape.leaf(kOne), 2), z = scaled(tape, y, 3);
  tape.backward({{z}});
  CHECK_THROWS_WITH_AS(tape.backward({{y}}), "backward: this tape has run backward already; give all roots to one call",
                       ShapeError);
}
