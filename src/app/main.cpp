#include "moesaic/app/program.hpp"

int main(int argc, char** argv) { return moesaic::run_program({argv + 1, argv + argc}); }
