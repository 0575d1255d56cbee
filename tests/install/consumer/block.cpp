// One room of the library alone.
#include <iostream>

#include "moesaic/grid/block.hpp"

int main() {
  const moesaic::Block block = moesaic::block_of(10, 4, 1);
  std::cout << "block " << block.begin << " " << block.end << "\n";
}
