#ifndef CADRE_STORE_ERROR_HPP
#define CADRE_STORE_ERROR_HPP

#include <cadre/core/error.hpp>

#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// The base of what the object store throws.
class store_error : public error {
 public:
  using error::error;

 protected:
  [[gnu::cold]] store_error(int number, std::string_view message) : error("store", number, message) {}
};

/// Thrown (301) when an object that is asked for does not exist any more; the text says why: erased, its producer died or
/// gave up, dropped for lack of memory, lost with its file.
class object_gone : public store_error {
 public:
  using store_error::store_error;
  explicit object_gone(std::string_view message) : store_error(301, message) {}
};

/// Thrown (302) when there is no room and none has become free in time. The text names who holds most.
class store_full : public store_error {
 public:
  using store_error::store_error;
  explicit store_full(std::string_view message) : store_error(302, message) {}
};

/// Thrown (303) when an object is asked for as another type than it was put as; the text has both.
class wrong_object_type : public store_error {
 public:
  wrong_object_type(std::string_view asked, std::string_view stored)
      : store_error(303, std::string("the object was put as '")
                             .append(stored)
                             .append("' and is asked for as '")
                             .append(asked)
                             .append("'; ask for it as what it is")) {}
};

/// Thrown (304) when an object is put under a name that another one has.
class object_name_taken : public store_error {
 public:
  explicit object_name_taken(std::string_view name)
      : store_error(304, std::string("an object named '")
                             .append(name)
                             .append("' is there already; erase it first, or use get_or_create")) {}
};

/// Thrown (305) when an object was not there in the time given.
class store_timeout : public store_error {
 public:
  explicit store_timeout(std::string_view message) : store_error(305, message) {}
};

/// Thrown (306) when another process does not let go of the store's lock, which is held for microseconds as a rule: it has
/// been stopped, say in a debugger. The text names it.
class store_stalled : public store_error {
 public:
  explicit store_stalled(std::string_view message) : store_error(306, message) {}
};

/// Thrown (307) when a child made by fork() uses a store that its parent opened.
class forked_store : public store_error {
 public:
  forked_store()
      : store_error(
            307,
            "a process made by fork() uses a store that its parent opened; open the store in the child, or call "
            "exec()") {}
};

/// Thrown (308) when the options of a store, or a name, make no sense.
class bad_store_option : public store_error {
 public:
  explicit bad_store_option(std::string_view message) : store_error(308, message) {}
};

/// Thrown (309) when the memory of a store cannot be found or used.
class store_unreachable : public store_error {
 public:
  explicit store_unreachable(std::string_view message) : store_error(309, message) {}
};

/// Thrown (313) when a ref that refers to nothing is used: default-made or moved from.
class empty_object_ref : public store_error {
 public:
  empty_object_ref()
      : store_error(313, "an object_ref that refers to nothing is used: it was default-made or moved from") {}
};

/// Thrown (314) when a ref is written where no process of its store reads it, or read where it does not belong.
class ref_cannot_travel : public store_error {
 public:
  explicit ref_cannot_travel(std::string_view message) : store_error(314, message) {}
};

/// Thrown (315) by a get_or_create that would wait for ever: it is called by the function that is to make that very object.
class object_makes_itself : public store_error {
 public:
  explicit object_makes_itself(std::string_view name)
      : store_error(315, std::string("get_or_create of '")
                             .append(name)
                             .append("' is called by the function that is to make it; make it of something else")) {}
};

CADRE_NAMESPACE_END

#endif
