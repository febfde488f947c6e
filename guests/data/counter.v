module counter(input clk, input rst, output [3:0] q);
  reg [3:0] r = 0;
  always @(posedge clk)
    if (rst) r <= 0;
    else r <= r + 1;
  assign q = r;
endmodule
