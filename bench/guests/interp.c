/* A bytecode interpreter: a loop around a switch, whose targets the processor must guess. run(n)
 * lets it run a program that sums i * i % 7 for i from n down to 1, and returns the sum.
 * Imports nothing and uses no C library.
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

enum op { PUSH, LOAD, STORE, ADD, SUB, MUL, REM, DUP, SWAP, DROP, JUMP_IF, NOP, HALT };

static const u8 program[] = {
    PUSH, 0, STORE, 1,            /*  0: sum = 0 */
    LOAD, 0, DUP, MUL,            /*  4: i * i */
    PUSH, 7, REM,                 /*  8: % 7 */
    LOAD, 1, SWAP, ADD, STORE, 1, /* 11: sum += */
    NOP,                          /* 17 */
    LOAD, 0, PUSH, 1, SUB,        /* 18: i - 1 */
    DUP, STORE, 0,                /* 23: i = */
    JUMP_IF, 4,                   /* 26: while i != 0 */
    LOAD, 1, HALT,                /* 28 */
};

static u64 stack[16];
static u64 variables[4];

u64 run(u32 n) {
    u32 pc = 0, sp = 0;
    u64 t;
    if (n == 0)
        return 0;
    variables[0] = n;
    for (;;) {
        switch ((enum op)program[pc++]) {
        case PUSH:
            stack[sp++] = program[pc++];
            break;
        case LOAD:
            stack[sp++] = variables[program[pc++]];
            break;
        case STORE:
            variables[program[pc++]] = stack[--sp];
            break;
        case ADD:
            sp--;
            stack[sp - 1] += stack[sp];
            break;
        case SUB:
            sp--;
            stack[sp - 1] -= stack[sp];
            break;
        case MUL:
            sp--;
            stack[sp - 1] *= stack[sp];
            break;
        case REM:
            sp--;
            stack[sp - 1] %= stack[sp];
            break;
        case DUP:
            stack[sp] = stack[sp - 1];
            sp++;
            break;
        case SWAP:
            t = stack[sp - 1];
            stack[sp - 1] = stack[sp - 2];
            stack[sp - 2] = t;
            break;
        case DROP:
            sp--;
            break;
        case JUMP_IF:
            pc = stack[--sp] != 0 ? program[pc] : pc + 1;
            break;
        case NOP:
            break;
        case HALT:
            return stack[sp - 1];
        }
    }
}
