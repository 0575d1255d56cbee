#include "moesaic/app/program.hpp"

#include <mpi.h>

#include <algorithm>
#include <cstdlib>

#include "moesaic/app/build_info.hpp"
#include "moesaic/app/deck.hpp"
#include "moesaic/app/exchange.hpp"
#include "moesaic/app/inspect.hpp"
#include "moesaic/app/plan.hpp"
#include "moesaic/app/verify.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/base/log.hpp"
#include "moesaic/base/text.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/train/run.hpp"
#include "moesaic/train/stop_request.hpp"

namespace moesaic {
namespace {

using Words = std::vector<std::string>;

constexpr const char* usage = R"(moesaic trains Mixture-of-Experts models.

  moesaic train DECK [key=value | --key=value ...]     under mpirun or srun, any number of ranks
        --check                                        checks all input, then ends; writes nothing
        --dump-deck                                    prints the deck with every key, then ends
  moesaic evaluate DECK [key=value ...]                loss on data.validation, as one JSON line
  moesaic plan DECK --ranks N [--ranks-per-node 8] [key=value ...]
                                                       what it will hold, compute and exchange
  moesaic import HF_DIR CHECKPOINT.h5                  Hugging Face folder -> checkpoint, any ranks
        model.multi_token_prediction=true              with it, for runs that train it
  moesaic export CHECKPOINT.h5 HF_DIR                  checkpoint -> Hugging Face folder, any ranks
        dtype=bf16 | dtype=fp32                        of the weights; else as imported
  moesaic inspect CHECKPOINT.h5                        arrays, deck and step
  moesaic verify CHECKPOINT.h5                         compares every hash, on any number of ranks
  moesaic --help [SECTION] | --version | --config

A key is section.name, such as train.steps=100; the command line wins over the deck.
Exit status: 0 done; 1 failed; 2 bad command line, deck or input; 75 stopped early behind a
complete checkpoint: run the same command again.
)";

bool take(Words& words, const std::string& flag) {
  const auto found = std::find(words.begin(), words.end(), flag);
  if (found == words.end()) return false;
  words.erase(found);
  return true;
}

int print_configuration() {
  namespace b = build_info;
  fmt::print(
      "moesaic {} ({})\nbuilt    {}, preset {}, {} {}, -march={}\ncuda     {} {}\nmpi      {}\nhdf5     {}\n"
      "boost    {}\nfmt      {}\nblas     {}\n",
      b::version, b::revision, b::build_type, b::preset, b::compiler, b::flags, b::march, b::cuda,
      b::cuda_architectures, b::mpi, b::hdf5, b::boost, b::fmt, b::blas);
  return done;
}

int print_help(const Words& words) {
  MOESAIC_VALIDATE(words.size() <= 2, "--help takes one section at most; write moesaic --help train");
  const std::string keys = options_help(words.size() > 1 ? words[1] : "");
  if (words.size() < 2) fmt::print("{}\nKeys of a deck:\n\n", usage);
  fmt::print("{}", keys);
  return done;
}

/// The deck and its overrides, read on every rank, refused on all together.
RunSettings settings_from(const Words& words, Communicator& world) {
  RunSettings settings;
  together(world, [&] {
    MOESAIC_VALIDATE(words.size() >= 2 && !words[1].starts_with("-") && words[1].find('=') == std::string::npos,
                     "moesaic {} needs a deck; write moesaic {} DECK [key=value ...]", words[0], words[0]);
    settings = read_deck(words[1], {words.begin() + 2, words.end()});
    settings.version = build_info::version;
  });
  return settings;
}

int train(Words words, const MpiSession& session, Communicator& world) {
  const bool check = take(words, "--check"), dump = take(words, "--dump-deck");
  const RunSettings settings = settings_from(words, world);
  if (dump) log_line("{}", settings.deck);
  if (check) check_run(settings, session, world);
  if (check) log_line("{} is ready to run on {} {}", words[1], session.size(), session.size() == 1 ? "rank" : "ranks");
  return check || dump ? done : run_training(settings, session, world);
}

int evaluate(const Words& words, const MpiSession& session, Communicator& world) {
  return run_evaluation(settings_from(words, world), session, world);
}

/// What one process does alone.
int run_alone(const Words& words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h") return print_help(words);
  if (words[0] == "--version") return fmt::print("moesaic {}\n", build_info::version), done;
  if (words[0] == "--config") return print_configuration();
  if (words[0] == "plan") return print_plan(words), done;
  if (words[0] == "inspect") return inspect_checkpoint(words);
  if (words[0] == "verify") return verify_command(words, nullptr);
  static const Words known{"train",   "evaluate", "plan",   "import",    "export",
                           "inspect", "verify",   "--help", "--version", "--config"};
  throw InputError(
      fmt::format("unknown command {}; did you mean {}? See moesaic --help", words[0], nearest_name(words[0], known)));
}

int run_on_all_ranks(const Words& words, const MpiSession& session, Communicator& world) {
  if (!words.empty() && words[0] == "train") return train(words, session, world);
  if (!words.empty() && words[0] == "evaluate") return evaluate(words, session, world);
  if (!words.empty() && words[0] == "verify") return verify_command(words, &world);
  if (!words.empty() && words[0] == "import") return run_import(words, world);
  if (!words.empty() && words[0] == "export") return run_export(words, world);
  together(world, [&] {
    if (session.rank() == 0) run_alone(words);
  });
  return done;
}

/// An error that all ranks agreed on is said once and ends them in order; any other ends the job from the rank that met
/// it.
int run_under_mpi(const Words& words) {
  MpiSession session;
  set_log_identity(session.rank(), session.host());
  Arena scratch(host_memory());
  MpiCommunicator world(MpiHandle::duplicate(MPI_COMM_WORLD), scratch);
  try {
    return run_on_all_ranks(words, session, world);
  } catch (const AgreedInputError& error) {
    if (session.rank() == 0) log_error("{}", error.what());
    return bad_input;
  } catch (const AgreedRunError& error) {
    if (session.rank() == 0) log_error("{}", error.what());
    return failed;
  } catch (const InputError& error) {
    log_error("{}", error.what());
    session.abort(bad_input);
  } catch (const std::exception& error) {
    log_error("{}", error.what());
    session.abort(failed);
  }
}

/// A run hears of signals from the very first: while MPI starts, while checkpoints are read, and when all is done.
bool is_run(const Words& words) {
  const auto has = [&words](const char* flag) { return std::find(words.begin(), words.end(), flag) != words.end(); };
  return !words.empty() && words[0] == "train" && !has("--check") && !has("--dump-deck");
}

/// Whether a launcher started other processes beside this one: then one of them speaks for all.
bool is_one_of_several() {
  for (const char* size : {"OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"})
    if (const char* text = std::getenv(size)) return std::string(text) != "1";
  return false;
}

}  // namespace

int run_program(const std::vector<std::string>& arguments) {
  try {
    static const Words collective{"train", "evaluate", "import", "export"};
    const bool parallel =
        !arguments.empty() && std::find(collective.begin(), collective.end(), arguments[0]) != collective.end();
    // Never destroyed: a signal that comes while a finished process ends must not become its status.
    static const StopRequest* const signals = is_run(arguments) ? new StopRequest : nullptr;
    static_cast<void>(signals);
    return parallel || is_one_of_several() ? run_under_mpi(arguments) : run_alone(arguments);
  } catch (const InputError& error) {
    log_error("{}", error.what());
    return bad_input;
  } catch (const std::exception& error) {
    log_error("{}", error.what());
    return failed;
  }
}

}  // namespace moesaic
