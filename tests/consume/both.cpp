// The single header, its adapters and the tree in one translation unit: the include guards let them meet.
#include "../../single_include/cadre/cadre.hpp"
#include "../../single_include/cadre/eigen.hpp"
#include "../../single_include/cadre/zlib.hpp"

#include <cadre/cadre.hpp>
#include <cadre/eigen.hpp>
#include <cadre/zlib.hpp>

int main() { return cadre::contiguous<Eigen::MatrixXf> ? 0 : 1; }
