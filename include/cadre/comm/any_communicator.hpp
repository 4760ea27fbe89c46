#ifndef CADRE_COMM_ANY_COMMUNICATOR_HPP
#define CADRE_COMM_ANY_COMMUNICATOR_HPP

#include <cadre/comm/collectives.hpp>
#include <cadre/comm/communicator.hpp>
#include <cadre/core/chrono.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Any communicator behind one type, at one virtual call per collective: code that takes it is no template over the
/// model. A copyable handle, itself a communicator. Made from an lvalue it refers to that communicator, which must
/// outlive it; made from an rvalue, or by split, it owns it together with its copies.
class any_communicator : public collectives<any_communicator> {
 public:
  template <class C>
    requires(!std::same_as<std::remove_cvref_t<C>, any_communicator> && !std::is_const_v<std::remove_reference_t<C>> &&
             communicator<std::remove_cvref_t<C>>)
  any_communicator(C&& comm)  // NOLINT(google-explicit-constructor): every model is an any_communicator
      : model_(std::make_shared<model<std::conditional_t<std::is_lvalue_reference_v<C>, C, std::remove_cvref_t<C>>>>(
            std::forward<C>(comm))) {}

  [[nodiscard]] int rank() const { return model_->rank(); }
  [[nodiscard]] int world_size() const { return model_->world_size(); }
  void barrier() { model_->barrier(); }
  void barrier(std::chrono::nanoseconds timeout) { model_->barrier(timeout); }
  void all_reduce_bytes(void* data, std::size_t count, data_type type, reduce_op op) {
    model_->all_reduce(data, count, type, op);
  }
  void broadcast_bytes(void* data, std::size_t bytes, int root) { model_->broadcast(data, bytes, root); }
  void reduce_scatter_bytes(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) {
    model_->reduce_scatter(in, out, out_count, type, op);
  }
  void all_gather_bytes(const void* in, void* out, std::size_t in_bytes) { model_->all_gather(in, out, in_bytes); }
  [[nodiscard]] std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes) { return model_->allocate(bytes); }
  [[nodiscard]] any_communicator split(int color, int key) { return any_communicator(model_->split(color, key)); }
  void abort(std::string_view why) noexcept { model_->abort(why); }
  void set_timeout(std::chrono::nanoseconds timeout) { model_->set_timeout(timeout); }
  [[nodiscard]] std::string_view backend() const { return model_->backend(); }

 private:
  struct interface {
    virtual ~interface() = default;
    virtual int rank() const = 0;
    virtual int world_size() const = 0;
    virtual void barrier() = 0;
    virtual void barrier(std::chrono::nanoseconds timeout) = 0;
    virtual void all_reduce(void* data, std::size_t count, data_type type, reduce_op op) = 0;
    virtual void broadcast(void* data, std::size_t bytes, int root) = 0;
    virtual void reduce_scatter(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) = 0;
    virtual void all_gather(const void* in, void* out, std::size_t in_bytes) = 0;
    virtual std::shared_ptr<std::byte> allocate(std::size_t bytes) = 0;
    virtual std::shared_ptr<interface> split(int color, int key) = 0;
    virtual void abort(std::string_view why) noexcept = 0;
    virtual void set_timeout(std::chrono::nanoseconds timeout) = 0;
    virtual std::string_view backend() const = 0;
  };

  template <class C>  // C& refers, C owns
  struct model final : interface {
    using owned = std::remove_reference_t<C>;
    explicit model(C&& comm) : comm_(std::forward<C>(comm)) {}
    int rank() const override { return std::as_const(comm_).rank(); }
    int world_size() const override { return std::as_const(comm_).world_size(); }
    void barrier() override { comm_.barrier(); }
    void barrier(std::chrono::nanoseconds timeout) override { comm_.barrier(timeout); }
    void all_reduce(void* data, std::size_t count, data_type type, reduce_op op) override {
      comm_.all_reduce_bytes(data, count, type, op);
    }
    void broadcast(void* data, std::size_t bytes, int root) override { comm_.broadcast_bytes(data, bytes, root); }
    void reduce_scatter(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) override {
      comm_.reduce_scatter_bytes(in, out, out_count, type, op);
    }
    void all_gather(const void* in, void* out, std::size_t in_bytes) override {
      comm_.all_gather_bytes(in, out, in_bytes);
    }
    std::shared_ptr<std::byte> allocate(std::size_t bytes) override { return comm_.allocate_bytes(bytes); }
    std::shared_ptr<interface> split(int color, int key) override {
      return std::make_shared<model<owned>>(comm_.split(color, key));
    }
    void abort(std::string_view why) noexcept override { comm_.abort(why); }
    void set_timeout(std::chrono::nanoseconds timeout) override { comm_.set_timeout(timeout); }
    std::string_view backend() const override { return std::as_const(comm_).backend(); }
    C comm_;
  };

  explicit any_communicator(std::shared_ptr<interface> made) noexcept : model_(std::move(made)) {}

  std::shared_ptr<interface> model_;
};

static_assert(communicator<any_communicator>);

CADRE_NAMESPACE_END

#endif
