#ifndef CADRE_ARCHIVE_INPUT_ARCHIVE_HPP
#define CADRE_ARCHIVE_INPUT_ARCHIVE_HPP

#include <cadre/archive/output_archive.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>

CADRE_NAMESPACE_BEGIN

/// Reads what output_archive wrote, from bytes that must outlive it. Nothing is trusted: each size is compared with
/// the bytes that are left before anything is allocated or read, so truncated or damaged data end in archive_truncated
/// (501), archive_corrupt (502) or serialization_failed (503). A value that was being read is then partly assigned.
/// Data forged on purpose can still confuse the types behind std::shared_ptr (a weakness of cereal): do not read those
/// from strangers.
class input_archive : public cereal::InputArchive<input_archive> {
  using base = cereal::InputArchive<input_archive>;

 public:
  explicit input_archive(std::span<const std::byte> bytes, archive_extension* extension = nullptr)
      : base(this), bytes_(bytes), extension_(extension) {}
  /// Null if there is none.
  [[nodiscard]] archive_extension* extension() const noexcept { return extension_; }

  template <class... Values>
  input_archive& operator()(Values&&... values) {
    (get(values), ...);
    return *this;
  }
  template <class Value>
  input_archive& operator&(Value&& value) {
    return (*this)(value);
  }
  template <class Value>
  input_archive& operator>>(Value&& value) {
    return (*this)(value);
  }

  /// The next `size` bytes. Throws archive_truncated (501).
  void read(void* data, std::size_t size) {
    if (size > left()) throw archive_truncated(size, left(), offset_);
    if (size == 0) return;
    std::memcpy(data, bytes_.data() + offset_, size);
    offset_ += size;
  }

  /// Bytes not read yet.
  [[nodiscard]] std::size_t left() const noexcept { return bytes_.size() - offset_; }
  [[nodiscard]] std::size_t offset() const noexcept { return offset_; }

  /// Throws archive_not_exhausted (504) if bytes are left.
  void expect_end() const {
    if (left() != 0) throw archive_not_exhausted(left(), bytes_.size());
  }

  /// A number of elements to come, of at least `element_size` bytes each. Throws archive_corrupt (502) if they cannot
  /// be in the bytes that are left.
  std::size_t read_count(std::size_t element_size = 1) {
    const std::size_t at = offset_;
    std::uint64_t count = 0;
    read(&count, sizeof count);
    check_count(count, element_size, at);
    return static_cast<std::size_t>(count);
  }

 private:
  void check_count(std::uint64_t count, std::size_t element_size, std::size_t at) const {
    if (count > left() / element_size)
      throw archive_corrupt(
          "a container of " + std::to_string(count) + " elements with " + std::to_string(left()) + " bytes left", at);
  }

  template <class T>
  void get(T& value) {
    using type = std::remove_const_t<T>;
    if constexpr (std::is_same_v<T, bool>) {
      std::uint8_t byte = 0;  // a bool of another value is undefined behaviour
      read(&byte, 1);
      if (byte > 1) throw archive_corrupt("a bool of value " + std::to_string(byte), offset_ - 1);
      value = byte == 1;
    } else if constexpr (detail::archived_by_bytes<type>) {
      static_assert(!std::is_const_v<T>, "cadre: a const value cannot be read into");
      read(static_cast<void*>(std::addressof(value)), sizeof(T));
    } else if constexpr (custom_portable<type>) {
      portable<type>::load(*this, value);
    } else if constexpr (detail::is_vector<type>) {
      get_vector(value);
    } else {
      try {
        base::operator()(value);
      } catch (const cereal::Exception& e) {
        throw serialization_failed(e.what());
      }
    }
  }

  /// Elements that are there are read in place. Memory grows with what has been read, not with what was promised.
  template <class T, class Allocator>
  void get_vector(std::vector<T, Allocator>& values) {
    if constexpr (detail::archived_by_bytes<T>) {
      values.resize(read_count(sizeof(T)));
      read(values.data(), values.size() * sizeof(T));
    } else {
      const std::size_t count = read_container_size();
      if (count < values.size()) values.resize(count);
      values.reserve(std::min(count, std::max(values.size(), left() / sizeof(T))));
      for (std::size_t i = 0; i < count; ++i) {
        if (i == values.size()) values.emplace_back();
        get(values[i]);
      }
    }
  }

  // Elements may write no bytes at all, if they are stateless; few of them are let pass.
  std::size_t read_container_size() {
    constexpr std::uint64_t harmless = 65536;
    const std::size_t at = offset_;
    std::uint64_t count = 0;
    read(&count, sizeof count);
    if (count > harmless) check_count(count, 1, at);
    return static_cast<std::size_t>(count);
  }

  template <class T>
  friend void CEREAL_LOAD_FUNCTION_NAME(input_archive& archive, cereal::SizeTag<T>& tag) {
    tag.size = archive.read_container_size();
  }

  std::span<const std::byte> bytes_;
  std::size_t offset_ = 0;
  archive_extension* extension_;
};

template <class T>
  requires std::is_arithmetic_v<T>
void CEREAL_LOAD_FUNCTION_NAME(input_archive& archive, T& value) {
  archive(value);
}
template <class T>
void CEREAL_LOAD_FUNCTION_NAME(input_archive& archive, cereal::NameValuePair<T>& pair) {
  archive(pair.value);
}
template <class T>
void CEREAL_LOAD_FUNCTION_NAME(input_archive& archive, cereal::BinaryData<T>& block) {
  archive.read(block.data, static_cast<std::size_t>(block.size));
}

CADRE_NAMESPACE_END

CEREAL_REGISTER_ARCHIVE(cadre::input_archive)
CEREAL_SETUP_ARCHIVE_TRAITS(cadre::input_archive, cadre::output_archive)

#endif
