/* Parses and sums JSON texts that it writes itself: byte-wise, branchy, recursive, as parsers are.
 *
 * run(n): n times, writes a text of some KiB from a seed, checks and sums it with a recursive
 * descent parser, and mixes the sum into the seed. The result depends on n only.
 * Imports nothing and uses no C library.
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

static u8 text[64 * 1024];
static u32 len;
static u32 state;

static u32 random(void) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static void put(u8 c) {
    if (len < sizeof text - 1)
        text[len++] = c;
}

static void put_number(u32 value) {
    u8 digits[10];
    u32 count = 0;
    do
        digits[count++] = (u8)('0' + value % 10);
    while ((value /= 10) != 0);
    while (count > 0)
        put(digits[--count]);
}

static void put_string(void) {
    u32 count = 3 + random() % 13;
    put('"');
    while (count-- > 0) {
        u32 c = random() % 64;
        if (c == 0) {
            put('\\');
            put('n');
        } else {
            put((u8)('A' + c % 26 + (c & 32)));
        }
    }
    put('"');
}

static void put_value(u32 depth) {
    u32 kind = random() % (depth > 0 ? 8 : 5), count;
    switch (kind) {
    case 0:
    case 1:
        put_number(random());
        break;
    case 2:
    case 3:
        put_string();
        break;
    case 4: {
        static const u8 words[3][6] = {"true", "false", "null"};
        for (const u8 *at = words[random() % 3]; *at; at++)
            put(*at);
        break;
    }
    default: {
        int object = kind & 1;
        put(object ? '{' : '[');
        count = 2 + random() % 5;
        for (u32 i = 0; i < count; i++) {
            if (i > 0) {
                put(',');
                put(' ');
            }
            if (object) {
                put_string();
                put(':');
            }
            put_value(depth - 1);
        }
        put(object ? '}' : ']');
    }
    }
}

static u32 at;
static int broken;

static void skip_space(void) {
    while (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r')
        at++;
}

static u32 parse_string(void) {
    u32 hash = 2166136261u;
    at++;
    while (text[at] != '"') {
        if (text[at] == 0) {
            broken = 1;
            return 0;
        }
        if (text[at] == '\\')
            at++;
        hash = (hash ^ text[at++]) * 16777619u;
    }
    at++;
    return hash;
}

static u64 parse_value(void) {
    u64 sum = 0;
    skip_space();
    u8 c = text[at];
    if (c == '{' || c == '[') {
        u8 end = c == '{' ? '}' : ']';
        at++;
        for (;;) {
            skip_space();
            if (c == '{') {
                sum = sum * 31 + parse_string();
                if (text[at++] != ':')
                    broken = 1;
            }
            sum = sum * 17 + parse_value();
            skip_space();
            if (broken || text[at] != ',')
                break;
            at++;
        }
        if (text[at++] != end)
            broken = 1;
        return sum;
    }
    if (c == '"')
        return parse_string();
    if (c >= '0' && c <= '9') {
        while (text[at] >= '0' && text[at] <= '9')
            sum = sum * 10 + (text[at++] - '0');
        return sum;
    }
    while (text[at] >= 'a' && text[at] <= 'z')
        sum = sum * 13 + text[at++];
    if (sum == 0)
        broken = 1;
    return sum;
}

u64 run(u32 n) {
    u64 result = 0;
    for (u32 round = 0; round < n; round++) {
        state = 0x9e3779b9u + (u32)result * 2 + 1;
        len = 0;
        put('[');
        for (u32 i = 0; i < 40; i++) {
            if (i > 0)
                put(',');
            put_value(4);
        }
        put(']');
        text[len] = 0;
        for (u32 pass = 0; pass < 8; pass++) {
            at = 0;
            broken = 0;
            result = result * 1000003 + parse_value();
            if (broken || at != len)
                return 0;
        }
    }
    return result;
}
