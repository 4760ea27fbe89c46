#ifndef CADRE_REPORT_HPP
#define CADRE_REPORT_HPP

#include <cadre/report/chrome_trace.hpp>
#include <cadre/report/csv_writer.hpp>
#include <cadre/report/error.hpp>
#include <cadre/report/json_lines_writer.hpp>
#include <cadre/report/progress.hpp>
#include <cadre/report/record.hpp>
#include <cadre/report/svg_chart.hpp>
#include <cadre/report/table.hpp>

#endif
