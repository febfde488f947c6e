// Reads a ledger and tells what is wrong with it by C++ exceptions: thrown in one function and caught in
// another, by class and by base class, thrown on, replaced, passed through destructors, virtual calls and
// function pointers. A line is `open NAME`, `pay FROM TO AMOUNT`, `batch COUNT` (the next lines, all or
// none), `die`, or empty.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// What is wrong with a line.
struct Refused : std::runtime_error {
    using std::runtime_error::runtime_error;
    virtual int code() const noexcept { return 1; }
};
struct Unknown : Refused {
    explicit Unknown(const std::string &name) : Refused("no account " + name) {}
    int code() const noexcept override { return 2; }
};
struct Short : Refused {
    Short(const std::string &name, std::int64_t by) : Refused(name + " lacks " + std::to_string(by)), lacks(by) {}
    int code() const noexcept override { return 3; }
    std::int64_t lacks;
};

using Accounts = std::map<std::string, std::int64_t>;
using Words = std::vector<std::string>;

int undone = 0, open_guards = 0;

// Puts accounts back unless told that all is well.
class Guard {
  public:
    explicit Guard(Accounts &accounts) : accounts(accounts), before(accounts) { ++open_guards; }
    ~Guard() {
        --open_guards;
        if (std::uncaught_exceptions() > 0) {
            accounts = before;
            ++undone;
        }
    }

  private:
    Accounts &accounts;
    Accounts before;
};

struct Command {
    virtual ~Command() = default;
    virtual void run(Accounts &accounts, const Words &words) const = 0;
};
struct Open : Command {
    void run(Accounts &accounts, const Words &words) const override {
        if (!accounts.emplace(words.at(1), 100).second)
            throw Refused("there is an account " + words[1]);
    }
};
struct Pay : Command {
    static std::int64_t &find(Accounts &accounts, const std::string &name) {
        auto found = accounts.find(name);
        if (found == accounts.end())
            throw Unknown(name);
        return found->second;
    }
    void run(Accounts &accounts, const Words &words) const override {
        Guard guard(accounts);
        std::int64_t amount = std::atoll(words.at(3).c_str());
        if (amount <= 0)
            throw amount;
        std::int64_t &from = find(accounts, words.at(1));
        from -= amount;
        // The money is gone here if there is nobody to take it, unless the guard works.
        find(accounts, words.at(2)) += amount;
        if (from < 0)
            throw Short(words[1], -from);
    }
};
struct Die : Command {
    void run(Accounts &, const Words &) const override {
        struct Nobody {};
        throw Nobody();
    }
};

const Command &command(const std::string &name) {
    static const Open open;
    static const Pay pay;
    static const Die die;
    if (name == "open")
        return open;
    if (name == "pay")
        return pay;
    if (name == "die")
        return die;
    throw std::invalid_argument("what is " + name);
}

Words words_of(const std::string &line) {
    Words words;
    for (std::size_t at = 0; (at = line.find_first_not_of(' ', at)) != std::string::npos;) {
        std::size_t end = line.find(' ', at);
        words.push_back(line.substr(at, end - at));
        at = end;
        if (end == std::string::npos)
            break;
    }
    return words;
}

bool next(std::string &line) {
    line.clear();
    for (int c; (c = std::getchar()) != EOF; line.push_back(static_cast<char>(c)))
        if (c == '\n')
            return true;
    return !line.empty();
}

void batch(Accounts &accounts, int count) {
    Guard guard(accounts);
    std::string line;
    int number = 0;
    while (number++ < count && next(line)) {
        try {
            Words words = words_of(line);
            command(words.at(0)).run(accounts, words);
        } catch (Short &error) {
            std::printf("  short by %lld\n", static_cast<long long>(error.lacks));
            throw;
        } catch (const Refused &error) {
            std::throw_with_nested(Refused("line " + std::to_string(number) + " of the batch"));
        }
    }
}

// From the bottom of many frames.
int deep(int depth) {
    std::unique_ptr<int> held(new int(depth));
    if (depth == 0)
        throw std::out_of_range("deep");
    return deep(depth - 1) + *held;
}

void explain(const std::exception &error, int level) {
    std::printf("%*s%s\n", level * 2, "", error.what());
    try {
        std::rethrow_if_nested(error);
    } catch (const std::exception &inner) {
        explain(inner, level + 1);
    }
}

} // namespace

int main() {
    Accounts accounts;
    std::string line;
    int worst = 0;
    while (next(line)) {
        Words words = words_of(line);
        if (words.empty())
            continue;
        try {
            if (words[0] == "batch")
                batch(accounts, std::atoi(words.at(1).c_str()));
            else if (words[0] == "deep")
                deep(std::atoi(words.at(1).c_str()));
            else
                command(words[0]).run(accounts, words);
        } catch (const Refused &error) {
            std::printf("refused (%d): ", error.code());
            explain(error, 0);
            worst = std::max(worst, error.code());
        } catch (const std::exception &error) {
            std::printf("wrong: %s\n", error.what());
        } catch (std::int64_t amount) {
            std::printf("amount %lld\n", static_cast<long long>(amount));
        }
    }
    std::exception_ptr kept;
    try {
        deep(100);
    } catch (...) {
        kept = std::current_exception();
    }
    try {
        std::rethrow_exception(kept);
    } catch (const std::out_of_range &error) {
        std::printf("kept: %s\n", error.what());
    }
    for (const auto &[name, amount] : accounts)
        std::printf("%s %lld\n", name.c_str(), static_cast<long long>(amount));
    std::printf("undone %d, open %d\n", undone, open_guards);
    return worst;
}
