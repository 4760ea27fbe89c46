#ifndef CADRE_TESTS_CATCH_MAIN_HPP
#define CADRE_TESTS_CATCH_MAIN_HPP

/// What main() does, for a test that has a main of its own: see main.cpp. `which` are the test cases, if the command line
/// names none.
int run_tests(int argc, char** argv, const char* which);

#endif
