"""Small generated data sets in the layout of the real ones, and the switch that makes a config use them."""
