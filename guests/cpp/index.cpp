// Prints where each word of a text stands: words in order, the lines of each, the longest lists first.
//
// index [FILE]      (standard input if there is none)
//
// Exit code: 0, or 1 if the file can't be read. Uses std::string, std::vector, std::map,
// std::unique_ptr, virtual calls, std::function, std::sort; built without exceptions.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

using Lines = std::vector<int>;
using Index = std::map<std::string, Lines, std::less<>>;

// What decides whether a word is listed. A small hierarchy, so that calls go through tables.
struct Filter {
    virtual ~Filter() = default;
    virtual bool keeps(std::string_view word, const Lines &lines) const = 0;
    virtual const char *name() const = 0;
};

struct All final : Filter {
    bool keeps(std::string_view, const Lines &) const override { return true; }
    const char *name() const override { return "all"; }
};

struct Repeated final : Filter {
    bool keeps(std::string_view, const Lines &lines) const override { return lines.size() > 1; }
    const char *name() const override { return "repeated"; }
};

struct Long final : Filter {
    std::size_t at_least;
    explicit Long(std::size_t at_least) : at_least(at_least) {}
    bool keeps(std::string_view word, const Lines &) const override { return word.size() >= at_least; }
    const char *name() const override { return "long"; }
};

static bool read_line(std::FILE *in, std::string &line) {
    line.clear();
    for (int c; (c = std::fgetc(in)) != EOF;) {
        if (c == '\n')
            return true;
        line.push_back(static_cast<char>(c));
    }
    return !line.empty();
}

static Index read_index(std::FILE *in) {
    Index index;
    std::string line, word;
    auto end_word = [&](int number) {
        if (word.empty())
            return;
        Lines &lines = index[word];
        if (lines.empty() || lines.back() != number)
            lines.push_back(number);
        word.clear();
    };
    for (int number = 1; read_line(in, line); number++) {
        for (char c : line) {
            if (std::isalpha(static_cast<unsigned char>(c)))
                word.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
            else
                end_word(number);
        }
        end_word(number);
    }
    return index;
}

int main(int argc, char **argv) {
    std::FILE *in = argc > 1 ? std::fopen(argv[1], "r") : stdin;
    if (in == nullptr) {
        std::fprintf(stderr, "index: cannot read %s\n", argv[1]);
        return 1;
    }
    const Index index = read_index(in);

    std::vector<std::unique_ptr<Filter>> filters;
    filters.push_back(std::make_unique<All>());
    filters.push_back(std::make_unique<Repeated>());
    filters.push_back(std::make_unique<Long>(8));
    for (const auto &filter : filters) {
        auto count = std::count_if(index.begin(), index.end(), [&](const auto &entry) {
            return filter->keeps(entry.first, entry.second);
        });
        std::printf("%s: %d words\n", filter->name(), static_cast<int>(count));
    }

    std::vector<Index::const_iterator> order;
    for (auto at = index.begin(); at != index.end(); ++at)
        if (filters[1]->keeps(at->first, at->second))
            order.push_back(at);
    std::function<bool(Index::const_iterator, Index::const_iterator)> more =
        [](auto a, auto b) { return a->second.size() > b->second.size(); };
    std::stable_sort(order.begin(), order.end(), more);
    for (auto at : order) {
        std::string list;
        for (int line : at->second)
            list += (list.empty() ? "" : " ") + std::to_string(line);
        std::printf("%s: %s\n", at->first.c_str(), list.c_str());
    }
    return 0;
}
