#ifndef CADRE_CONFIG_VERSION_HPP
#define CADRE_CONFIG_VERSION_HPP

/// The one place where the version stands; CMakeLists.txt reads it from here.
#define CADRE_VERSION_MAJOR 0
#define CADRE_VERSION_MINOR 1
#define CADRE_VERSION_PATCH 0

#endif
