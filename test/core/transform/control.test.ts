import { differentiableLoops, loops } from "../../oracle/loops.js";
import { derivative, forward, secondDerivatives, vectorised } from "../../oracle/operations.js";
import { checkProperties } from "../../oracle/properties.js";

checkProperties("control flow", [...differentiableLoops, ...loops].map(forward));
checkProperties("control flow, vectorised", [...differentiableLoops, ...loops].map(vectorised));
checkProperties("derivatives of control flow", differentiableLoops.map(derivative));
checkProperties("second derivatives of control flow", secondDerivatives(differentiableLoops));
