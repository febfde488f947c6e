# Run by guests/run-big.sh: exceptions and fibers (which this Ruby makes by rewinding its own stack), floats, strings.
puts 6 * 7
primes = (1..2000).select { |n| (2..Math.sqrt(n)).none? { |d| (n % d).zero? } }
puts primes.size, primes.sum.to_s(16)
puts format("%.6f", Math.sin(1)), ("a".."e").each_slice(2).map(&:join).join("-")
puts begin
  Integer("x")
rescue ArgumentError => e
  e.class
end
fiber = Fiber.new { Fiber.yield 1; 2 }
puts fiber.resume + fiber.resume
require "json"
puts JSON.generate({ a: [1, 2.5, nil] })
