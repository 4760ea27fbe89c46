#ifndef CADRE_COMM_COMMUNICATOR_HPP
#define CADRE_COMM_COMMUNICATOR_HPP

#include <cadre/comm/reduce_op.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/core/data_type.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// What a model of ranks offers; `collectives` makes the typed face of it. Every rank calls the same operations in the
/// same order. One thread at a time may use a communicator object; abort may be called from any thread.
///
/// A model's rules:
///  - reductions combine the ranks' elements in a fixed binary tree (docs/architecture.md), so results are the same bits
///    on every rank and in every run;
///  - a wait ends, with communicator_timeout (401), when a rank has not arrived within the timeout, and the
///    communicator is then broken;
///  - a rank that calls something else than its peers makes collective_mismatch (403) on every rank;
///  - after abort, waiting and later calls of every rank throw communicator_aborted (402);
///  - children made by split are independent: a broken child leaves its parent working.
template <class C>
concept communicator = std::move_constructible<C> &&
                       requires(C& comm, const C& same, void* data, const void* in, std::size_t n, data_type type,
                                reduce_op op, int i, std::chrono::nanoseconds time, std::string_view why) {
                         { same.rank() } -> std::same_as<int>;
                         { same.world_size() } -> std::same_as<int>;
                         comm.barrier();
                         comm.barrier(time);
                         comm.all_reduce_bytes(data, n, type, op);
                         comm.broadcast_bytes(data, n, i);
                         comm.reduce_scatter_bytes(in, data, n, type, op);
                         comm.all_gather_bytes(in, data, n);
                         { comm.allocate_bytes(n) } -> std::same_as<std::shared_ptr<std::byte>>;
                         { comm.split(i, i) } -> std::same_as<C>;
                         { comm.abort(why) } noexcept;
                         comm.set_timeout(time);
                         { same.backend() } -> std::convertible_to<std::string_view>;
                       };

/// How long a collective waits for its peers unless set_timeout says otherwise.
inline constexpr std::chrono::nanoseconds default_collective_timeout = std::chrono::minutes(10);

CADRE_NAMESPACE_END

#endif
