#pragma once
/// The command line: which subcommand runs, and how errors leave the program.

#include <string>
#include <vector>

namespace moesaic {

/// Runs the program with its arguments (without its own name); returns the exit status: 0 done, 1 failed, 2 bad command
/// line, deck or input, 75 stopped behind a complete checkpoint.
int run_program(const std::vector<std::string>& arguments);

}  // namespace moesaic
