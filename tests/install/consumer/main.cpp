// All rooms of the library: the whole program under another name.
#include "moesaic/app/program.hpp"

int main() { return moesaic::run_program({"--config"}); }
