/* Floating point with square roots and divisions: run(n) takes the Sun and four planets n steps of a
 * hundredth of a day on and returns the bits of the energy of the whole.
 * Positions in astronomical units, velocities per year, masses such that the Sun's is 4 pi^2.
 * Imports nothing and uses no C library.
 */
typedef unsigned int u32;
typedef unsigned long long u64;

#define BODIES 5
#define SUN 39.47841760435743
#define YEAR 365.24

struct body {
    double x, y, z, vx, vy, vz, mass;
};

static const struct body start[BODIES] = {
    {0, 0, 0, 0, 0, 0, SUN},
    {4.84143144246472, -1.16032004402743, -0.10362204447112, 0.00166007664274403 * YEAR,
     0.00769901118419740 * YEAR, -0.0000690460016972 * YEAR, 0.000954791938424327 * SUN},
    {8.34336671824458, 4.12479856412430, -0.40352341711432, -0.00276742510726411 * YEAR,
     0.00499852801234917 * YEAR, 0.0000230417297574 * YEAR, 0.000285885980666131 * SUN},
    {12.8943695621391, -15.1111514016986, -0.22330757889266, 0.00296460137564762 * YEAR,
     0.00237847173959481 * YEAR, -0.0000296589568540 * YEAR, 0.0000436624404335156 * SUN},
    {15.3796971148509, -25.9193146099879, 0.17925877295037, 0.00268067772490389 * YEAR,
     0.00162824170038242 * YEAR, -0.0000951592254520 * YEAR, 0.0000515138902046611 * SUN},
};

static struct body bodies[BODIES];

static void step(double dt) {
    for (int i = 0; i < BODIES; i++) {
        struct body *a = &bodies[i];
        for (int j = i + 1; j < BODIES; j++) {
            struct body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            double square = dx * dx + dy * dy + dz * dz;
            double pull = dt / (square * __builtin_sqrt(square));
            a->vx -= dx * b->mass * pull;
            a->vy -= dy * b->mass * pull;
            a->vz -= dz * b->mass * pull;
            b->vx += dx * a->mass * pull;
            b->vy += dy * a->mass * pull;
            b->vz += dz * a->mass * pull;
        }
    }
    for (int i = 0; i < BODIES; i++) {
        bodies[i].x += dt * bodies[i].vx;
        bodies[i].y += dt * bodies[i].vy;
        bodies[i].z += dt * bodies[i].vz;
    }
}

static double energy(void) {
    double sum = 0;
    for (int i = 0; i < BODIES; i++) {
        const struct body *a = &bodies[i];
        sum += 0.5 * a->mass * (a->vx * a->vx + a->vy * a->vy + a->vz * a->vz);
        for (int j = i + 1; j < BODIES; j++) {
            const struct body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            sum -= a->mass * b->mass / __builtin_sqrt(dx * dx + dy * dy + dz * dz);
        }
    }
    return sum;
}

u64 run(u32 n) {
    union {
        double value;
        u64 bits;
    } result;
    for (int i = 0; i < BODIES; i++)
        bodies[i] = start[i];
    while (n-- > 0)
        step(0.01);
    result.value = energy();
    return result.bits;
}
